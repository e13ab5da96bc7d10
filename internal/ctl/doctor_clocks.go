package ctl

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// clockLimit is how far apart clocks may be for certain.
const clockLimit = time.Second

// ahead is by how much a member's clock is ahead of ours, within give.
type ahead struct {
	member   string
	by, give time.Duration
}

// clockFindings compare the clocks of the members by the date of their answers.
func (p *Program) clockFindings(ctx context.Context, t target) []Finding {
	if t.site.Clock == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, MemberTimeout)
	defer cancel()
	var mu sync.Mutex
	var clocks []ahead
	var asked sync.WaitGroup
	for _, m := range t.Members {
		url, err := endpoint(m, "/liveness")
		if err != nil {
			continue
		}
		asked.Go(func() {
			begin := p.Now()
			date, err := t.site.Clock(ctx, url)
			took := p.Now().Sub(begin)
			if err != nil {
				return // that it does not answer is said elsewhere
			}
			// The date was cut to a second, some time between question and answer.
			by := date.Add(time.Second / 2).Sub(begin.Add(took / 2))
			mu.Lock()
			defer mu.Unlock()
			clocks = append(clocks, ahead{m.Name, by, time.Second/2 + took/2})
		})
	}
	asked.Wait()
	return clocksFinding(clocks)
}

func clocksFinding(clocks []ahead) []Finding {
	if len(clocks) == 0 {
		return nil
	}
	slices.SortFunc(clocks, func(a, b ahead) int { return cmp.Or(cmp.Compare(a.by, b.by), strings.Compare(a.member, b.member)) })
	last, first := clocks[0], clocks[len(clocks)-1]
	f := Finding{Check: "clocks", Verdict: fine, Found: fmt.Sprintf("those of %d members agree, as far as whole seconds tell", len(clocks))}
	if apart := first.by - last.by; apart-first.give-last.give > clockLimit {
		f.Verdict, f.Found = warning, fmt.Sprintf("that of %s is %s ahead of that of %s", first.member, apart.Round(time.Second), last.member)
		f.Advice = "let an NTP client keep them: scheduled actions, the age of what a member knows and the order of log lines go by them. The leader lock does not"
	}
	return []Finding{f}
}
