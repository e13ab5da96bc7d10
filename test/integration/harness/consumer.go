package harness

import (
	"bufio"
	"context"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Consumer is an application that follows the changes of the numbered rows over a logical slot, with pg_recvlogical and test_decoding, from
// whoever leads. It applies a transaction when it has all of it, and skips a row that it has already.
type Consumer struct {
	cluster *Cluster
	slot    string
	program string
	stop    context.CancelFunc
	ended   chan struct{}

	mu          sync.Mutex
	have        map[int64]bool
	again       int     // rows that came once more, after a reconnection
	twice       []int64 // rows that came twice over one connection: wrong
	connections int
}

// Consume begins to follow the slot.
func (c *Cluster) Consume(t testing.TB, slot string) *Consumer {
	t.Helper()
	program := filepath.Join(c.binDir, "pg_recvlogical")
	if path, err := exec.LookPath(program); err == nil {
		program = path
	} else if program, err = exec.LookPath("pg_recvlogical"); err != nil {
		t.Fatalf("there is no pg_recvlogical: %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &Consumer{cluster: c, slot: slot, program: program, stop: stop, ended: make(chan struct{}), have: map[int64]bool{}}
	go r.run(ctx)
	t.Cleanup(r.Stop)
	return r
}

// Stop ends it. It may be called again.
func (r *Consumer) Stop() {
	r.stop()
	<-r.ended
}

func (r *Consumer) run(ctx context.Context) {
	defer close(r.ended)
	for ctx.Err() == nil {
		if leader := r.cluster.Leader(); leader != nil {
			r.follow(ctx, leader)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond): // between two attempts, as an application would
		}
	}
}

// follow reads until the connection ends, or that member leads no more.
func (r *Consumer) follow(ctx context.Context, leader *Member) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.program, "--start", "--no-loop", "--slot", r.slot, "--dbname", leader.dsn(), "--file", "-",
		"--status-interval", "1", "--fsync-interval", "1", "--option", "skip-empty-xacts=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return
	}
	go r.leave(ctx, cancel, leader)
	r.read(out)
	_ = cmd.Wait()
}

// leave ends a connection to a member that answers and leads no more: a PostgreSQL in recovery does not end it.
func (r *Consumer) leave(ctx context.Context, cancel context.CancelFunc, leader *Member) {
	for ctx.Err() == nil {
		if now := r.cluster.Leader(); now != nil && now != leader {
			cancel()
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond): // it is told by nobody
		}
	}
}

var inserted = regexp.MustCompile(`^table public\.numbered: INSERT: id\[bigint\]:(\d+) `)

// read takes in the transactions of one connection. A line that is cut belongs to none that is complete.
func (r *Consumer) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	here := map[int64]bool{}
	var transaction []int64
	for lines.Scan() {
		text := lines.Text()
		if m := inserted.FindStringSubmatch(text); m != nil {
			id, _ := strconv.ParseInt(m[1], 10, 64)
			transaction = append(transaction, id)
			continue
		}
		if len(text) < 6 || text[:6] != "COMMIT" {
			transaction = nil // BEGIN
			continue
		}
		r.mu.Lock()
		for _, id := range transaction {
			switch {
			case here[id]:
				r.twice = append(r.twice, id)
			case r.have[id]:
				r.again++
			}
			here[id], r.have[id] = true, true
		}
		r.mu.Unlock()
		transaction = nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(here) > 0 {
		r.connections++
	}
}

// Has waits until the consumer has all these rows.
func (r *Consumer) Has(t testing.TB, acks []Ack) {
	t.Helper()
	missing := func() (n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, a := range acks {
			if !r.have[a.ID] {
				n++
			}
		}
		return n
	}
	if !holds(Patience, func() bool { return missing() == 0 }) {
		t.Fatalf("the consumer lacks %d of %d acknowledged rows", missing(), len(acks))
	}
}

// Audit stops it and checks what it got: no row twice over one connection, and none that the cluster does not have, unless its commit was
// never acknowledged.
func (r *Consumer) Audit(t testing.TB, w *Writer) {
	t.Helper()
	r.Stop()
	there := r.cluster.rows(t)
	acked := map[int64]bool{}
	for _, a := range w.Acks() {
		acked[a.ID] = true
	}
	phantoms := 0
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.have {
		if !there[id] {
			phantoms++
			if acked[id] {
				t.Errorf("the consumer has row %d, which was acknowledged and is gone", id)
			}
		}
	}
	if len(r.twice) > 0 {
		t.Errorf("%d rows came twice over one connection, the first is %d", len(r.twice), r.twice[0])
	}
	t.Logf("the consumer got %d rows over %d connections, %d of them again after a reconnection; %d were never acknowledged and are gone", len(r.have), r.connections, r.again, phantoms)
}
