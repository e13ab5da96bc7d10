package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/regent-ha/regent/test/chaos/history"
	"github.com/regent-ha/regent/test/rig/rows"
)

// sessions are how rows are written to each member. The patient one waits through a fault for its answer, so that it goes on over
// the same connection as soon as anything answers.
var sessions = []rows.Session{
	{Name: "kept", Pause: 40 * time.Millisecond, Limit: 3 * time.Second},
	{Name: "patient", Pause: 60 * time.Millisecond, Limit: 45 * time.Second},
	{Name: "fresh", Fresh: true, Pause: 400 * time.Millisecond, Limit: 3 * time.Second},
}

const (
	clients     = 4
	registers   = 5
	createTable = "create table if not exists register (key int primary key, value bigint not null)"
	fill        = "insert into register select i, 0 from generate_series(1, %d) i on conflict do nothing"
	opPause     = 50 * time.Millisecond
	wander      = 300 * time.Millisecond // before the next member: where nobody takes writes, sessions that come and go would be all that the machine does
	opLimit     = 3 * time.Second
)

// work starts the applications; stop ends them and waits.
func (p *play) work(ctx context.Context, first *member) (stop func(), err error) {
	for _, sql := range []string{rows.Create, createList, createTable, fmt.Sprintf(fill, registers)} {
		if _, err := first.query(ctx, sql); err != nil {
			return nil, err
		}
	}
	var targets []rows.Target
	for _, m := range p.site.members {
		targets = append(targets, rows.Target{Name: m.name, DSN: m.dsn()})
	}
	writer := rows.Start(targets, sessions, p.noteRow)
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() { p.operate(ctx, i, rand.New(rand.NewPCG(p.o.seed, uint64(10+i)))) })
	}
	for i := range listClients + 1 {
		all.Go(func() { p.transact(ctx, i, i == listClients, rand.New(rand.NewPCG(p.o.seed, uint64(20+i)))) })
	}
	return func() { cancel(); all.Wait(); writer.Stop() }, nil
}

func (p *play) noteRow(a rows.Attempt) {
	if a.Outcome == rows.Refused {
		return
	}
	r := history.Row{ID: a.ID, Member: a.Member, Session: a.Session, Outcome: string(a.Outcome), Timeline: a.Timeline, LSN: a.LSN, Sent: p.record.Time(a.Sent), Ended: p.record.Time(a.Ended)}
	p.record.Note(history.Event{Row: &r})
	if a.Outcome == rows.Done {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.acks[a.Member] = max(p.acks[a.Member], r.Sent)
	}
}

// operate works on registers through whichever member takes writes.
func (p *play) operate(ctx context.Context, client int, chance *rand.Rand) {
	seen := map[int]int64{} // the value of each key that this client has seen last
	for at, next := client, int64(0); ; at++ {
		m := p.site.members[at%len(p.site.members)]
		if conn, err := rows.Connect(ctx, m.dsn()); err == nil {
			p.operateOn(ctx, conn, m, client, chance, seen, &next)
			rows.HangUp(conn)
		}
		if !sleep(ctx, wander) {
			return
		}
	}
}

// operateOn works over one session until something fails; a member that is no primary fails at once.
func (p *play) operateOn(ctx context.Context, conn *pgx.Conn, m *member, client int, chance *rand.Rand, seen map[int]int64, next *int64) {
	var file string
	var at float64
	if err := conn.QueryRow(ctx, "select "+rows.Where).Scan(&file, &at); err != nil {
		return
	}
	timeline, err := rows.Timeline(file)
	for err == nil && sleep(ctx, opPause) {
		*next++
		o := history.Op{Client: client, Key: 1 + chance.IntN(registers), Member: m.name, Timeline: timeline, New: int64(client+1)*1e9 + *next}
		o.Old = seen[o.Key]
		o.Kind = []string{history.Read, history.Write, history.CAS, history.CAS}[chance.IntN(4)]
		err = p.op(ctx, conn, &o)
		if o.Outcome == string(rows.Refused) {
			continue
		}
		p.record.Note(history.Event{Op: &o})
		timeline = o.Timeline
		switch {
		case err != nil:
		case o.Kind == history.Read:
			seen[o.Key] = o.Found
		case o.Kind == history.Write || o.Applied:
			seen[o.Key] = o.New
		}
	}
}

// durably is a condition that holds and writes WAL, so that also the answer to who has only read waits for a standby where commits do. What an ordinary
// read finds may be gone with the leader.
const durably = "pg_logical_emit_message(true, 'read', '') is not null"

// op does one operation and fills in what came of it. Every statement names the WAL file, which a server in recovery refuses.
func (p *play) op(ctx context.Context, conn *pgx.Conn, o *history.Op) error {
	ctx, cancel := context.WithTimeout(ctx, opLimit)
	defer cancel()
	var file string
	var at, value float64
	sent := time.Now()
	var err error
	switch o.Kind {
	case history.Read:
		o.New, o.Old = 0, 0
		err = conn.QueryRow(ctx, "select "+rows.Where+", value::float8 from register where key = $1 and "+durably, o.Key).Scan(&file, &at, &value)
		o.Found = int64(value)
	case history.Write:
		o.Old = 0
		err = conn.QueryRow(ctx, "update register set value = $2 where key = $1 returning "+rows.Where, o.Key, o.New).Scan(&file, &at)
	case history.CAS:
		err = conn.QueryRow(ctx, "with done as (update register set value = $2 where key = $1 and value = $3 returning 1) select "+rows.Where+", (select count(*) from done)::float8 where "+durably, o.Key, o.New, o.Old).Scan(&file, &at, &value)
		o.Applied = err == nil && value == 1
	}
	o.Sent, o.Ended = p.record.Time(sent), p.record.Now()
	o.Outcome = string(rows.Judge(err))
	if err != nil {
		return err
	}
	o.Timeline, err = rows.Timeline(file)
	return err
}
