package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/regent-ha/regent/test/chaos/history"
	"github.com/regent-ha/regent/test/chaos/verdict"
)

// report is the summary of a run: what was run, its rounds, the verdict.
func report(h history.History, v verdict.Verdict) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Chaos, mode %s, seed %d\n\n", cmp.Or(h.Run.Mode, history.Async), h.Run.Seed)
	fmt.Fprintf(&b, "%s. %s.\n\n", h.Run.Started.Format("2006-01-02 15:04 UTC"), strings.Join(h.Run.Versions, "; "))
	for _, what := range h.Run.LeftOut {
		fmt.Fprintf(&b, "Left out, as the machine does not allow it: %s.\n\n", what)
	}
	b.WriteString("| round | faults | leader | outage | missing rows | whole after the faults |\n|---|---|---|---|---|---|\n")
	missing := missingRows(h)
	for i, r := range h.Rounds {
		end := r.Healed
		if i+1 < len(h.Rounds) {
			end = h.Rounds[i+1].Begin
		} else if h.End != nil {
			end = h.End.At
		}
		lost := 0
		for _, row := range missing {
			if row.Ended >= r.Begin && row.Ended < end {
				lost++
			}
		}
		who := r.Before
		if r.After != r.Before {
			who += " → " + r.After
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %d | %s |\n", r.Number, faultsOf(h, r.Number), who, verdict.Outage(h.Rows, r.Begin, max(r.Healed, r.Lifted)), lost, whole(r))
	}
	b.WriteString("\n" + v.String())
	return b.String()
}

func faultsOf(h history.History, round int) string {
	var parts []string
	for _, f := range h.Faults {
		if f.Round != round {
			continue
		}
		at := strings.Join(f.Targets, " ")
		if f.Led {
			at += ", leading"
		}
		parts = append(parts, fmt.Sprintf("%s (%s) %s", f.Name, at, f.End-f.Begin))
	}
	return strings.Join(parts, "; ")
}

// missingRows are the acknowledged rows that the last leader does not have.
func missingRows(h history.History) (missing []history.Row) {
	if h.End == nil || h.End.Leader == "" {
		return nil
	}
	ranges := h.End.Members[h.End.Leader].Rows
	for _, r := range h.Rows {
		if r.Outcome == history.Done && !slices.ContainsFunc(ranges, func(s [2]int64) bool { return s[0] <= r.ID && r.ID <= s[1] }) {
			missing = append(missing, r)
		}
	}
	return missing
}
