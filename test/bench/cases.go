package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/regent-ha/regent/client"
)

// cell is one cluster of one system with one group of settings, in one round.
type cell struct {
	*bench
	cluster *cluster
	dsn     string
	round   int
	writer  *writer
}

// outageCase is one thing that happens to the leader.
type outageCase struct {
	id      string
	mayLose bool // acknowledged rows may be missing afterwards: replication is asynchronous
	same    bool // the same member may go on
	act     func(ctx context.Context, c *cell, leader *member) error
}

// The last one is the one that no agent has to be started again after.
var outageCases = []outageCase{
	{id: "switchover", act: func(ctx context.Context, c *cell, leader *member) error {
		patient, err := client.New("http://"+leader.api(), client.Options{Timeout: outageLimit})
		if err != nil {
			return err
		}
		defer patient.Close()
		i := slices.Index(c.cluster.members, leader)
		_, err = patient.Switchover(ctx, client.SwitchoverRequest{Leader: leader.name, Candidate: c.cluster.members[(i+1)%members].name})
		return err
	}},
	{id: "postmaster", same: true, act: func(ctx context.Context, c *cell, leader *member) error {
		pid := postmaster(c.place.outside(leader.dataDir()))
		if !slices.Contains(c.place.postgresBelow(leader.dir), pid) {
			return fmt.Errorf("kill the postmaster of %s: there is none", leader.name)
		}
		return syscall.Kill(pid, syscall.SIGKILL)
	}},
	{id: "term", act: func(ctx context.Context, c *cell, leader *member) error {
		return leader.agent.end(syscall.SIGTERM, false, outageLimit)
	}},
	{id: "node", mayLose: true, act: func(ctx context.Context, c *cell, leader *member) error { return c.cluster.kill(leader) }},
}

const (
	// outageLimit bounds how long nobody may take writes: the longest TTL, and a good deal more.
	outageLimit = 90 * time.Second
	// startLimit bounds how long an agent may take until its REST API answers, and a cluster until it is up.
	startLimit = 2 * time.Minute
	quietRows  = 20 // written in peace before and after each case
)

// run measures one cell. What fails is a result, not an error.
func (c *cell) run(ctx context.Context) {
	if !c.bootstrap(ctx) {
		c.skipped(ctx)
		return
	}
	c.quiet(ctx)
	c.writer = write(ctx, c.dsn)
	defer c.writer.halt()
	for _, o := range outageCases {
		if c.wanted(o.id) && ctx.Err() == nil {
			c.outage(ctx, o)
		}
	}
}

// failed records a measurement that there is no value of.
func (c *cell) failed(ctx context.Context, measure string, err error) {
	if ctx.Err() != nil {
		return // we were told to stop
	}
	c.results.fail(c.key(measure), fmt.Errorf("round %d: %w", c.round+1, err))
	for _, m := range c.cluster.members {
		fmt.Fprintf(os.Stderr, "--- end of the log of %s\n%s\n", m.name, c.cluster.tail(m))
	}
}

// skipped counts as failures what a cluster that did not come up keeps from being measured.
func (c *cell) skipped(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	names := []string{"list"}
	for _, o := range outageCases {
		names = append(names, o.id)
	}
	for _, name := range names {
		if c.wanted(name) {
			c.results.fail(c.key(name), fmt.Errorf("round %d: not measured, there was no cluster", c.round+1))
		}
	}
}

func (c *cell) key(measure string) key {
	return key{measure: measure, settings: c.cluster.settings.name, system: c.cluster.system.Name()}
}

func (c *cell) add(measure string, value float64) { c.results.add(c.key(measure), value) }

// bootstrap starts all members at once on an empty store, and returns whether there is a cluster.
func (c *cell) bootstrap(ctx context.Context) bool {
	limited, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	limited, died := context.WithCancelCause(limited)
	defer died(nil)
	begun := time.Now()
	for _, m := range c.cluster.members {
		if err := c.cluster.start(m); err != nil {
			c.failed(ctx, "writable", err)
			return false
		}
		go func() {
			select {
			case <-m.agent.ended:
				died(fmt.Errorf("%s: the agent ended: %w", m.name, errors.Join(m.agent.err, errEnded)))
			case <-limited.Done():
			}
		}()
	}
	writable, err := prepare(limited, c.dsn)
	if err != nil {
		c.failed(ctx, "writable", err)
		return false
	}
	c.add("writable", writable.Sub(begun).Seconds())
	streams, err := c.cluster.waitStreaming(limited, c.dsn, 1)
	if err != nil {
		c.failed(ctx, "streaming", err)
		return false
	}
	c.add("streaming", streams.Sub(begun).Seconds())
	if _, err := c.cluster.healthy(limited, c.dsn); err != nil {
		c.failed(ctx, "streaming", err)
		return false
	}
	return true
}

// quiet measures what a cluster costs that nobody writes to. The long window is for the first round only.
func (c *cell) quiet(ctx context.Context) {
	leader, err := c.cluster.healthy(ctx, c.dsn)
	if err != nil {
		c.failed(ctx, "idle", err)
		return
	}
	// What the start has left to do comes with the next look of each agent.
	if c.wanted("idle") && c.round == 0 {
		if !c.pause(ctx, c.loopWait()) || !c.idle(ctx) {
			return
		}
		c.memory(ctx)
	}
	if c.wanted("list") {
		c.list(ctx, leader)
	}
	if c.wanted("rest") {
		for measure, keepAlive := range map[string]bool{"rest-keep": true, "rest-new": false} {
			if rate, err := load(ctx, "http://"+leader.api()+"/primary", keepAlive); err != nil {
				c.failed(ctx, measure, err)
			} else {
				c.add(measure, rate)
			}
		}
	}
}

// memory is looked at after the idle window: a start leaves pages of the program behind that the kernel takes back when the agent says so.
func (c *cell) memory(ctx context.Context) {
	for _, m := range c.cluster.members {
		u, err := usageOf(m.agent.pid)
		if err != nil {
			c.failed(ctx, "rss", err)
			continue
		}
		c.add("rss", u.rss)
		c.add("pss", u.pss)
		c.add("anonymous", u.anonymous)
	}
}

func (c *cell) loopWait() time.Duration {
	return time.Duration(c.cluster.settings.loopWait) * time.Second
}

// pause waits; false: we were told to stop.
func (c *cell) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// idle counts CPU and requests over a window; false: we were told to stop.
func (c *cell) idle(ctx context.Context) bool {
	window := c.window(c.cluster.settings)
	before, err := c.store.requests(ctx)
	cpu := make([]time.Duration, members)
	for i, m := range c.cluster.members {
		u, errUsage := usageOf(m.agent.pid)
		cpu[i], err = u.cpu, errors.Join(err, errUsage)
	}
	if err != nil {
		c.failed(ctx, "requests", err)
		return true
	}
	begun := time.Now()
	if !c.pause(ctx, window) {
		return false
	}
	after, err := c.store.requests(ctx)
	minutes := time.Since(begun).Minutes()
	if err != nil {
		c.failed(ctx, "requests", err)
		return true
	}
	total := 0.0
	for method, n := range after {
		if n -= before[method]; n > 0 {
			total += n
			c.results.detail(c.key("requests"), method, n/minutes/members)
		}
	}
	c.add("requests", total/minutes/members)
	for i, m := range c.cluster.members {
		u, err := usageOf(m.agent.pid)
		if err != nil {
			c.failed(ctx, "cpu", err)
			continue
		}
		c.add("cpu", (u.cpu-cpu[i]).Seconds()/minutes)
	}
	return true
}

// list prints the cluster a few times, as a person would.
func (c *cell) list(ctx context.Context, leader *member) {
	for range 3 {
		limited, cancel := context.WithTimeout(ctx, 20*time.Second)
		begun := time.Now()
		out, err := c.place.output(limited, c.cluster.system.List(leader.file)...)
		took := time.Since(begun)
		cancel()
		if err == nil && !strings.Contains(out, "Leader") {
			err = fmt.Errorf("list the cluster: there is no leader in what it printed:\n%s", out)
		}
		if err != nil {
			c.failed(ctx, "list", err)
			continue
		}
		c.add("list", took.Seconds())
	}
}

// Bounds of the load on a REST API.
const (
	loadWorkers = 4
	loadMost    = 5000
	loadTime    = 1500 * time.Millisecond
)

// load asks a health check as fast as four clients can, within bounds, and returns how many answers came in a second. An answer that
// is not 200 is an error.
func load(ctx context.Context, url string, keepAlive bool) (perSecond float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: !keepAlive, MaxIdleConnsPerHost: loadWorkers}}
	defer h.CloseIdleConnections()
	var sent, good atomic.Int64
	problems := make(chan error, loadWorkers)
	begun := time.Now()
	var wg sync.WaitGroup
	for range loadWorkers {
		wg.Go(func() {
			for time.Since(begun) < loadTime && sent.Add(1) <= loadMost {
				if err := get(ctx, h, url); err != nil {
					problems <- err
					return
				}
				good.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(begun)
	close(problems)
	for p := range problems {
		err = errors.Join(err, p)
	}
	if err != nil {
		return 0, fmt.Errorf("load the REST API: after %d answers: %w", good.Load(), err)
	}
	return float64(good.Load()) / took.Seconds(), nil
}

func get(ctx context.Context, h *http.Client, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := h.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: have status %d, want 200", url, answer.StatusCode)
	}
	return nil
}

// outage lets one thing happen to a healthy cluster while the writer writes, and waits until the cluster is whole again.
func (c *cell) outage(ctx context.Context, o outageCase) {
	took, err := c.suffer(ctx, o)
	if err != nil {
		c.failed(ctx, o.id, err)
		return
	}
	c.add(o.id, took.Seconds())
	lost, acked, err := c.writer.missing(ctx)
	if err != nil {
		c.failed(ctx, "lost-"+o.id, err)
		return
	}
	c.add("lost-"+o.id, float64(lost))
	if lost > 0 && !o.mayLose {
		c.failed(ctx, "lost-"+o.id, fmt.Errorf("%d of %d acknowledged rows are lost, want 0", lost, acked))
	}
}

func (c *cell) suffer(ctx context.Context, o outageCase) (time.Duration, error) {
	if err := c.revive(ctx); err != nil {
		return 0, err
	}
	leader, err := c.cluster.healthy(ctx, c.dsn)
	if err != nil {
		return 0, err
	}
	// A cluster turns out to be healthy just after its agents have looked. Without a pause everything would happen at that point of
	// their cycle; the pauses spread it evenly, and the same way for both systems.
	_ = c.pause(ctx, time.Duration((float64(c.round)+0.5)/float64(c.rounds)*float64(c.loopWait())))
	if err := c.writer.rows(ctx, quietRows, 20*time.Second); err != nil {
		return 0, err
	}
	connection := c.writer.latest().conn
	begun := time.Now()
	if err := o.act(ctx, c, leader); err != nil {
		return 0, err
	}
	over := func(a ack) bool {
		return a.conn > connection && (o.same || a.on != leader.pgPort)
	}
	if err := c.writer.until(ctx, over, outageLimit); err != nil {
		return 0, err
	}
	if err := c.writer.rows(ctx, quietRows, 20*time.Second); err != nil {
		return 0, err
	}
	if o.id != outageCases[len(outageCases)-1].id {
		if err := c.revive(ctx); err != nil {
			return 0, err
		}
		if _, err := c.cluster.healthy(ctx, c.dsn); err != nil {
			return 0, err
		}
	}
	return c.writer.outage(begun, time.Now()), nil
}

// revive starts the agents that do not run, and notes how long that took.
func (c *cell) revive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for _, m := range c.cluster.members {
		if m.agent.running() {
			continue
		}
		took, err := c.cluster.startMeasured(ctx, m)
		if err != nil {
			return err
		}
		c.add("start", took.Seconds())
	}
	return nil
}
