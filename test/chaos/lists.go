package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/regent-ha/regent/test/chaos/history"
	"github.com/regent-ha/regent/test/rig/rows"
)

const (
	createList  = "create table if not exists list (key int primary key, items bigint[] not null)"
	appendItem  = "insert into list values ($1, array[$2::bigint]) on conflict (key) do update set items = list.items || excluded.items"
	readItems   = "select items from list where key = $1"
	listClients = 4  // and one that reads from replicas
	visit       = 20 // transactions of the reader on one member
	together    = 6  // lists that are in use at a time
	full        = 50 // values in each of them, on average, before others take their places; what is read stays short
)

// transact works on lists, transaction by transaction, through whichever member takes writes; the reader reads from those that do not.
func (p *play) transact(ctx context.Context, client int, reader bool, chance *rand.Rand) {
	for at := client; ; at++ {
		m := p.site.members[at%len(p.site.members)]
		if conn, err := rows.Connect(ctx, m.dsn()); err == nil {
			for n := 0; p.transactOn(ctx, conn, m, client, reader, chance) && sleep(ctx, opPause) && (!reader || n < visit); n++ {
			}
			rows.HangUp(conn)
		}
		if !sleep(ctx, wander) {
			return
		}
	}
}

// transactOn plays one transaction, and says whether the session is good for another one.
func (p *play) transactOn(ctx context.Context, conn *pgx.Conn, m *member, client int, reader bool, chance *rand.Rand) bool {
	t := history.Txn{Client: client, Member: m.name, Replica: reader}
	ctx, cancel := context.WithTimeout(ctx, opLimit)
	defer cancel()
	var recovers bool
	if err := conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&recovers); err != nil || recovers != reader {
		return false
	}
	var todo []history.Step
	readOnly := reader || chance.IntN(4) == 0
	lists := int(p.values.Load()) / (together * full) * together
	for range 1 + chance.IntN(4) {
		s := history.Step{Key: lists + chance.IntN(together)}
		if !readOnly && chance.IntN(2) == 0 {
			s.Append = p.values.Add(1)
		}
		todo = append(todo, s)
	}
	options := pgx.TxOptions{IsoLevel: pgx.Serializable}
	if reader {
		options.IsoLevel = pgx.RepeatableRead // the most that a server in recovery can do
	}
	sent := time.Now()
	p.txn(ctx, conn, options, todo, &t)
	t.Sent, t.Ended = p.record.Time(sent), p.record.Now()
	if t.Outcome != history.Refused || !readOnly {
		p.record.Note(history.Event{Txn: &t})
	}
	return !conn.IsClosed()
}

// txn fills in what came of a transaction. Until it was told to commit it has certainly not happened.
func (p *play) txn(ctx context.Context, conn *pgx.Conn, options pgx.TxOptions, todo []history.Step, t *history.Txn) {
	t.Outcome = history.Refused
	tx, err := conn.BeginTx(ctx, options)
	if err != nil {
		return
	}
	if err := steps(ctx, tx, todo, t); err != nil {
		_ = tx.Rollback(ctx) // if that fails the session is closed
		return
	}
	if err := tx.Commit(ctx); !errors.Is(err, pgx.ErrTxCommitRollback) {
		t.Outcome = string(rows.Judge(err))
	}
}

// steps does what is to be done, and notes what was answered and each append that was sent.
func steps(ctx context.Context, tx pgx.Tx, todo []history.Step, t *history.Txn) (err error) {
	if !t.Replica {
		var file string
		var at float64
		if err := tx.QueryRow(ctx, "select "+rows.Where).Scan(&file, &at); err != nil {
			return err
		}
		t.LSN = uint64(at)
		if t.Timeline, err = rows.Timeline(file); err != nil {
			return err
		}
	}
	for _, s := range todo {
		if s.Append != 0 {
			t.Steps = append(t.Steps, s)
			if _, err := tx.Exec(ctx, appendItem, s.Key, s.Append); err != nil {
				return err
			}
			continue
		}
		if err := tx.QueryRow(ctx, readItems, s.Key).Scan(&s.Found); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		t.Steps = append(t.Steps, s)
	}
	return nil
}
