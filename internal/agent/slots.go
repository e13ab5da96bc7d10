package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
	"github.com/regent-ha/regent/internal/loop"
	"github.com/regent-ha/regent/internal/postgres"
)

func (a *Agent) syncSlots(ctx context.Context, action ha.SyncSlots) error {
	want := make([]postgres.SlotWant, 0, len(action.Want))
	for _, w := range action.Want {
		want = append(want, postgres.SlotWant{Name: w.Name, Advance: w.Advance, Anew: w.Anew})
	}
	return a.pg.SyncSlots(ctx, want, action.Drop)
}

// tending is the work on logical slots beside the loop, one at a time.
type tending struct {
	mu     sync.Mutex
	cancel context.CancelFunc // nil: nothing is under way
	told   map[string]string  // what went wrong last, by slot: it is said once
	done   sync.WaitGroup
}

// tendPatience bounds it. Decoding the WAL of an hour takes minutes, and what was done is lost when it is cut short.
const tendPatience = 10 * time.Minute

// tendSlots begins it, unless it is under way already; then the next decision asks again.
func (a *Agent) tendSlots(ctx context.Context, t ha.TendSlots) {
	w := &a.tending
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel != nil {
		return
	}
	ctx, w.cancel = context.WithTimeout(ctx, tendPatience)
	w.done.Add(1)
	go func() {
		defer w.done.Done()
		news := a.tend(ctx, t)
		w.mu.Lock()
		w.cancel()
		w.cancel = nil
		w.mu.Unlock()
		a.tell(loop.SlotsTended{News: news})
	}()
}

// leaveSlots ends the work under way: PostgreSQL is about to be promoted, and whoever reads a slot must not wait for us.
func (a *Agent) leaveSlots() {
	a.tending.mu.Lock()
	defer a.tending.mu.Unlock()
	if a.tending.cancel != nil {
		a.tending.cancel()
	}
}

func (a *Agent) tend(ctx context.Context, t ha.TendSlots) (news ha.SlotNews) {
	told := map[string]string{}
	note := func(what string, err error) {
		if err == nil || errors.Is(ctx.Err(), context.Canceled) {
			return
		}
		told[what] = err.Error()
		if a.tending.told[what] != err.Error() {
			a.log.Warn("logical replication slots", "error", err)
		}
	}
	for _, s := range t.Create {
		note(s.Name, a.pg.CreateLogicalSlot(ctx, s))
	}
	for _, m := range t.Advance {
		err := a.pg.AdvanceLogicalSlot(ctx, m.PermanentSlot, m.To)
		if errors.Is(err, postgres.ErrSlotBroken) {
			news.Broken = append(news.Broken, m.Name)
		}
		note(m.Name, err)
	}
	if t.Ask != (cluster.Upstream{}) {
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		xmin, err := a.pg.SlotsOf(limited, source(t.Ask))
		cancel()
		note("", err)
		if err == nil {
			news.Leader, news.Xmin = t.Ask.Name, xmin
		}
	}
	a.tending.told = told // one at a time, so nobody else looks
	news.At = a.clock()
	slices.Sort(news.Broken)
	return news
}

func (a *Agent) copySlots(c ha.CopySlots) func(context.Context, postgres.Progress) error {
	return func(ctx context.Context, _ postgres.Progress) error {
		return a.pg.CopySlots(ctx, source(c.Leader), c.Slots)
	}
}

// wantsFeedback says whether hot_standby_feedback must be on, by the members that there are.
func (a *Agent) wantsFeedback() bool {
	return ha.Feedback(a.name, tags(a.settings.Tags), limits(&a.settings), a.seen)
}
