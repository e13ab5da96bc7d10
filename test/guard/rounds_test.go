// Package guard breaks leaders in every way that leaves their PostgreSQL running without an agent that could stop it, with sessions that
// are open and write, and measures when the last row was accepted: before the end of the lock, and before the new leader's first.
//
//	go test ./test/guard -v -timeout 0 -rounds 100              a hundred rounds, each of about 40 s; several clusters side by side
//	go test ./test/guard -v -timeout 0 -rounds 10 -without      the same without a guard: two primaries
package guard

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/boottime"
	"github.com/regent-ha/regent/internal/guard"
	"github.com/regent-ha/regent/internal/guard/process"
	"github.com/regent-ha/regent/test/integration/harness"
)

var (
	rounds   = flag.Int("rounds", 5, "how many rounds, all scenarios together")
	clusters = flag.Int("clusters", 3, "how many clusters side by side")
	without  = flag.Bool("without", false, "switch the guard off and show what happens then")
)

// ttl is the shortest that the product allows.
const ttl = 20 * time.Second

// patience bounds how long a cluster may take to heal: several of them share a machine, and a rewind reads a lot.
const patience = 3 * harness.Patience

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", fmt.Sprint(*clusters)); err != nil {
		panic(err)
	}
	harness.Main(m)
}

// scenario breaks a leader; undo mends it.
type scenario struct {
	name  string
	do    func(t *testing.T, m *harness.Member) (undo func())
	agent bool // there is one that acts
}

var scenarios = []scenario{
	{name: "agent frozen", do: func(t *testing.T, m *harness.Member) func() {
		m.SignalAgent(t, syscall.SIGSTOP)
		return func() { m.SignalAgent(t, syscall.SIGCONT) }
	}},
	{name: "agent killed", do: func(t *testing.T, m *harness.Member) func() {
		m.KillAgent(t)
		return func() { m.Start(t) }
	}},
	{name: "agent side frozen", do: func(t *testing.T, m *harness.Member) func() {
		return freeze(m, func(s server) bool { return s == nothing })
	}},
	{name: "all but the guard frozen", do: func(t *testing.T, m *harness.Member) func() {
		return freeze(m, func(s server) bool { return s != itsGuard })
	}},
	{name: "store cut off", agent: true, do: func(_ *testing.T, m *harness.Member) func() { return m.Store.Cut() }},
}

// server says what a process of a member is to its PostgreSQL.
type server int

const (
	nothing server = iota
	itsGuard
	postgres
)

// freeze stops the processes of a member that are chosen. Those that live go on when it is undone.
func freeze(m *harness.Member, chosen func(server) bool) (undo func()) {
	var frozen []int
	for _, pid := range harness.Below(m.Dir) {
		s := nothing
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		switch {
		case cwd == "/":
			s = itsGuard
		case cwd == m.Data || len(exe) > 9 && exe[len(exe)-9:] == "/postgres":
			s = postgres
		}
		if chosen(s) && syscall.Kill(pid, syscall.SIGSTOP) == nil {
			frozen = append(frozen, pid)
		}
	}
	return func() {
		for _, pid := range frozen {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
}

// result is one round. Without a guard the end of the lock is when the store had deleted it, which is later than it ended.
type result struct {
	scenario string
	margin   time.Duration // from the last row that the old leader accepted to the end of its lock
	gap      time.Duration // ... to the first that the new leader accepted
	lost     int           // rows that were acknowledged and that the new leader lacks
	twice    int           // rows that the old leader accepted beside the new one
	late     time.Duration // how long after its moment the guard began to kill; 0: it did not
	failed   bool
}

// TestLeaseOutlivesWriting runs the rounds.
func TestLeaseOutlivesWriting(t *testing.T) {
	var next atomic.Int64
	var mu sync.Mutex
	var results []result
	began := time.Now()
	t.Run("clusters", func(t *testing.T) {
		for i := range min(*clusters, *rounds) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				c := harness.Start(t, harness.Options{TTL: ttl, Member: func(_ *harness.Member, config harness.Map) {
					if *without {
						config["regent"] = harness.Map{"guard": "off"}
					}
				}})
				w := c.Write(t)
				for n := next.Add(1); n <= int64(*rounds); n = next.Add(1) {
					r := play(t, c, w, scenarios[int(n-1)%len(scenarios)])
					mu.Lock()
					results = append(results, r)
					fmt.Printf("round %3d  %-25s last row %8.3f s before the lock's end, %8.3f s before the new leader's first; %d rows lost%s\n",
						n, r.scenario, r.margin.Seconds(), r.gap.Seconds(), r.lost, verdict(r))
					mu.Unlock()
				}
			})
		}
	})
	report(os.Stdout, results, time.Since(began))
	if len(results) < *rounds {
		t.Errorf("have %d rounds, want %d: a cluster did not heal", len(results), *rounds)
	}
}

func verdict(r result) string {
	switch {
	case r.twice > 0:
		return fmt.Sprintf("; FAILED: %d rows accepted by a second primary", r.twice)
	case r.failed:
		return "; FAILED"
	}
	return ""
}

// play breaks the leader once, waits for the other member to lead, mends it, and judges what was accepted.
func play(t *testing.T, c *harness.Cluster, w *harness.Writer, s scenario) result {
	t.Helper()
	old := c.Healthy(t, patience)
	other := c.Others(old)[0]
	w.AdvanceOn(t, old, patience)
	time.Sleep(rand.N(2 * time.Second)) // anywhere between two renewals
	begun := time.Now()
	stop, end, kills := watch(t, c, old)
	undo := s.do(t, old)
	w.AdvanceOn(t, other, patience)
	alone := old.Postmaster() == 0 || s.agent // an agent may have made it a standby
	if *without {
		time.Sleep(10 * time.Second) // as long as nobody looks
	}
	stop()
	lockEnds, late := end(), kills()
	undo()
	if now := c.Healthy(t, patience); now != other {
		t.Errorf("%s: have leader %s, want %s", s.name, now.Name, other.Name)
	}
	w.AdvanceOn(t, other, patience)

	r := result{scenario: s.name, late: late}
	var mine []harness.Ack
	for _, a := range w.Acks() {
		if a.Acked.After(begun) {
			mine = append(mine, a)
		}
	}
	first := harness.FirstAcked(mine, other, begun)
	last, sent := begun, begun // "all frozen" accepts nothing
	for _, a := range mine {
		if a.Member != old.Name {
			continue
		}
		if a.Acked.After(last) {
			last = a.Acked
		}
		if a.Sent.After(sent) {
			sent = a.Sent
		}
		if a.Sent.After(first) {
			r.twice++
		}
	}
	r.margin, r.gap, r.lost = lockEnds.Sub(last), first.Sub(last), len(w.Missing(t, mine))
	// A row was accepted at some moment between those two. That the answer came late accuses nobody: we may have waited for a processor.
	r.failed = !sent.Before(lockEnds) || r.twice > 0 || !alone
	if r.failed && !*without {
		t.Errorf("%s: the old leader (%s) accepted its last row, which was sent %s before its lock ended, %s before that, and %s before the new leader's first, %d beside it; its PostgreSQL was gone: %t. Want it earlier than both, and gone",
			s.name, old.Name, lockEnds.Sub(sent), r.margin, r.gap, r.twice, alone)
	}
	return r
}

// watch follows the end of the leader's lock: as the agent counts it, which is never later than the store does, in the memory that it
// shares with its guard; without a guard, when the key is gone.
func watch(t *testing.T, c *harness.Cluster, m *harness.Member) (stop func(), end func() time.Time, late func() time.Duration) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan time.Time, 1)
	var shared *process.Shared
	if !*without {
		shared = memory(t, m)
	}
	late = func() time.Duration { return 0 }
	if shared != nil {
		before := shared.Kills.Load()
		late = func() time.Duration {
			if shared.Kills.Load() == before {
				return 0
			}
			return time.Duration(shared.KilledAt.Load() - shared.Deadline.Load())
		}
	}
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var at time.Time
		for {
			switch {
			case shared != nil:
				if o := process.Order(shared.Order.Load()); o.Armed() {
					left := time.Unix(0, o.At()).Sub(boottime.Now()) + guard.Margin(ttl)
					at = time.Now().Add(left)
				}
			case at.IsZero() && c.Leader() != m:
				at = time.Now()
			}
			select {
			case <-done:
				ended <- at
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(done) }, func() time.Time { return <-ended }, late
}

// memory maps what a member shares with its guard, read-only.
func memory(t *testing.T, m *harness.Member) *process.Shared {
	t.Helper()
	for _, name := range guard.Files(m.Data) {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		defer unix.Close(fd)
		mapped, err := unix.Mmap(fd, 0, process.Size, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Munmap(mapped) })
		return (*process.Shared)(unsafe.Pointer(&mapped[0]))
	}
	t.Fatalf("%s has no guard", m.Name)
	return nil
}
