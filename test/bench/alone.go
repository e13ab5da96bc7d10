package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// alone measures what PostgreSQL itself takes for the same things, without an agent: no system can be faster.
type alone struct {
	*bench
	dir       string // inside
	log       *os.File
	processes []*process
}

// server is one PostgreSQL of it.
type server struct {
	data    string // inside
	port    int
	process *process
}

// postgresAlone does everything once. What fails is a result.
func (b *bench) postgresAlone(ctx context.Context, round int) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	a := &alone{bench: b, dir: filepath.Join(b.place.dir, fmt.Sprint("alone-", round))}
	err := a.run(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		b.results.fail(key{measure: "alone", system: "PostgreSQL"}, fmt.Errorf("round %d: %w", round+1, err))
	}
	if err := a.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func (a *alone) add(measure string, begun time.Time) {
	a.results.add(key{measure: measure, system: "PostgreSQL"}, time.Since(begun).Seconds())
}

func (a *alone) run(ctx context.Context) (err error) {
	if err := a.place.mkdir(a.dir); err != nil {
		return err
	}
	if a.log, err = os.Create(a.place.outside(filepath.Join(a.dir, "log"))); err != nil {
		return err
	}
	secret := filepath.Join(a.dir, "password")
	if err := a.place.write(secret, []byte(a.password+"\n")); err != nil {
		return err
	}
	primary, standby := &server{data: filepath.Join(a.dir, "a")}, &server{data: filepath.Join(a.dir, "b")}
	for _, s := range []*server{primary, standby} {
		if s.port, err = freePort(); err != nil {
			return err
		}
	}

	begun := time.Now()
	if _, err := a.place.output(ctx, filepath.Join(a.place.binDir, "initdb"), "-D", primary.data, "-U", "postgres", "--pwfile="+secret,
		"--auth=md5", "--encoding=UTF8", "--locale=C", "--data-checksums"); err != nil {
		return err
	}
	conn, err := a.start(ctx, primary)
	if err != nil {
		return err
	}
	a.add("alone-initdb", begun)
	_, err = conn.Exec(ctx, "create table bench (id bigint primary key)")
	hangUp(conn)
	if err != nil {
		return err
	}

	begun = time.Now()
	if _, err := a.place.output(ctx, filepath.Join(a.place.binDir, "pg_basebackup"), "-D", standby.data, "-R", "-X", "stream", "--checkpoint=fast",
		"-d", fmt.Sprintf("host=127.0.0.1 port=%d user=postgres password=%s sslmode=disable", primary.port, a.password)); err != nil {
		return err
	}
	a.add("alone-basebackup", begun)
	if conn, err = a.start(ctx, standby); err != nil {
		return err
	}
	defer func() { hangUp(conn) }()
	if err := a.caughtUp(ctx, primary); err != nil {
		return err
	}

	begun = time.Now()
	if err := primary.process.end(syscall.SIGINT, false, outageLimit); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "select pg_promote(false)"); err != nil {
		return err
	}
	if err := untilInserted(ctx, conn, 1); err != nil {
		return err
	}
	a.add("alone-handover", begun)

	if err := a.place.killPostgres(standby.data); err != nil {
		return err
	}
	hangUp(conn)
	begun = time.Now()
	if conn, err = a.start(ctx, standby); err != nil {
		return err
	}
	if err := untilInserted(ctx, conn, 2); err != nil {
		return err
	}
	a.add("alone-crash", begun)
	return nil
}

// start starts a server and returns a session as soon as it gives one.
func (a *alone) start(ctx context.Context, s *server) (conn *pgx.Conn, err error) {
	cmd := a.place.command(context.Background(), syscall.SIGQUIT, a.dir, filepath.Join(a.place.binDir, "postgres"), "-D", s.data,
		"-p", fmt.Sprint(s.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="+a.dir, "-c", "max_connections=50", "-c", "password_encryption=md5")
	if s.process, err = start(cmd, a.log); err != nil {
		return nil, err
	}
	a.processes = append(a.processes, s.process)
	for {
		dsn := fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres password=%s sslmode=disable", s.port, a.password)
		if conn, err = connect(ctx, dsn); err == nil {
			return conn, nil
		}
		select {
		case <-s.process.ended:
			text, _ := os.ReadFile(a.log.Name())
			return nil, fmt.Errorf("start PostgreSQL: it ended: %w\n%s", errors.Join(s.process.err, errEnded), strings.TrimSpace(string(text)))
		case <-ctx.Done():
			return nil, fmt.Errorf("start PostgreSQL: %w", err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// caughtUp waits until the standby has all of the primary's WAL.
func (a *alone) caughtUp(ctx context.Context, primary *server) error {
	conn, err := connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres password=%s sslmode=disable", primary.port, a.password))
	if err != nil {
		return err
	}
	defer hangUp(conn)
	for {
		var n int
		if err := conn.QueryRow(ctx, "select count(*) from pg_stat_replication where state = 'streaming' and replay_lsn = pg_current_wal_lsn()").Scan(&n); err != nil || n == 1 {
			return err
		}
		time.Sleep(5 * time.Millisecond) // PostgreSQL does not tell; ctx ends the query
	}
}

// untilInserted repeats an INSERT until it is acknowledged: a standby refuses it until it is promoted.
func untilInserted(ctx context.Context, conn *pgx.Conn, id int64) error {
	for {
		err := insert(ctx, conn, id)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || conn.IsClosed() {
			return fmt.Errorf("insert a row: %w", err)
		}
		time.Sleep(time.Millisecond) // as the loop of an application; PostgreSQL does not tell
	}
}

func (a *alone) close() error {
	var problems []error
	for _, p := range a.processes {
		problems = append(problems, p.end(syscall.SIGQUIT, false, killLimit))
	}
	problems = append(problems, a.place.killPostgres(a.dir))
	if a.log != nil {
		problems = append(problems, a.log.Close())
	}
	return errors.Join(append(problems, os.RemoveAll(a.place.outside(a.dir)))...)
}
