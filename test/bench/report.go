package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// measure is one line of the table for each group of settings, or one line for all when they do not matter to it.
type measure struct {
	id, title, unit string
	anySettings     bool
	more            bool // more is better
	sum             bool // the total counts, not the median
	aim             func(s settings, theirs series) aim
}

// aim is what Regent's value must be below.
type aim struct {
	below float64
	worst bool // of all values, else of the median
	text  string
	none  bool // it depends on a value that there is none of
}

func under(limit float64, unit string) func(settings, series) aim {
	return func(settings, series) aim { return aim{below: limit, text: fmt.Sprintf("< %g %s", limit, unit)} }
}

var measures = []measure{
	{id: "switchover", title: "write outage at switchover", unit: "s", aim: under(0.3, "s")},
	{id: "term", title: "write outage after SIGTERM of the leader's agent", unit: "s"},
	{id: "postmaster", title: "write outage after SIGKILL of the postmaster", unit: "s", aim: under(1, "s")},
	{id: "node", title: "write outage after SIGKILL of agent and PostgreSQL", unit: "s", aim: func(s settings, _ series) aim {
		limit := float64(s.ttl) + 0.5
		return aim{below: limit, worst: true, text: fmt.Sprintf("always < ttl + 0.5 = %g s", limit)}
	}},
	{id: "writable", title: "bootstrap to writable", unit: "s"},
	{id: "streaming", title: "bootstrap to the second member streaming", unit: "s", aim: under(4, "s")},
	{id: "cpu", title: "CPU of an idle agent", unit: "s/min", aim: func(_ settings, theirs series) aim {
		if len(theirs.values) == 0 {
			return aim{none: true, text: "< half of Patroni's"}
		}
		return aim{below: theirs.median() / 2, text: "< half of Patroni's"}
	}},
	{id: "requests", title: "requests to etcd, per member", unit: "1/min", aim: func(s settings, _ series) aim {
		// What begins within a minute may be one more than what fits into it.
		most := 60 / float64(s.loopWait)
		return aim{below: most + 1, text: fmt.Sprintf("≤ 1 per loop = %g/min", most)}
	}},
	{id: "rss", title: "RSS of an agent", unit: "MB", anySettings: true, aim: under(30, "MB")},
	{id: "pss", title: "PSS of an agent", unit: "MB", anySettings: true},
	{id: "anonymous", title: "memory of an agent that no file backs", unit: "MB", anySettings: true},
	{id: "start", title: "agent start to REST answering", unit: "s", anySettings: true, aim: under(0.1, "s")},
	{id: "list", title: "wall time of `list`", unit: "s", anySettings: true, aim: under(0.05, "s")},
	{id: "rest-keep", title: "REST `GET /primary`, connections kept", unit: "1/s", anySettings: true, more: true},
	{id: "rest-new", title: "REST `GET /primary`, a connection each", unit: "1/s", anySettings: true, more: true},
	{id: "lost-switchover", title: "acknowledged rows lost at switchover", unit: "rows", sum: true},
	{id: "lost-term", title: "acknowledged rows lost after SIGTERM of the agent", unit: "rows", sum: true},
	{id: "lost-postmaster", title: "acknowledged rows lost after SIGKILL of the postmaster", unit: "rows", sum: true},
	{id: "lost-node", title: "acknowledged rows lost after SIGKILL of both (replication is asynchronous)", unit: "rows", sum: true},
}

var aloneMeasures = []struct{ id, title string }{
	{"alone-handover", "fast shutdown, promotion, first acknowledged INSERT"},
	{"alone-crash", "start after a crash, first acknowledged INSERT"},
	{"alone-initdb", "initdb and start, first session"},
	{"alone-basebackup", "pg_basebackup of an empty cluster"},
}

// facts are what the numbers depend on.
type facts struct {
	date, machine, versions string
	rounds                  int
	took                    time.Duration
	settings                []settings
	complete                bool
}

// render writes the report as markdown.
func render(f facts, r *results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. %s\n\n%s. Three members, one etcd for both, one writer that inserts a row every 10 ms. Rounds: %d, the systems in turns; the run took %s.\n\n", f.date, f.machine, f.versions, f.rounds, f.took.Round(time.Second))
	for _, s := range f.settings {
		fmt.Fprintf(&b, "Settings \"%s\": %s.\n", s.name, s)
	}
	b.WriteString("\nOutage: the longest time without an acknowledged row. Values are **median** (min to max, n values).\n")
	if !f.complete {
		b.WriteString("\n**The run was interrupted: what follows is not all.**\n")
	}
	b.WriteString("\n| | settings | Regent | Patroni | Regent is better by | aim | met |\n|---|---|---|---|---|---|---|\n")
	for _, m := range measures {
		groups := f.settings
		if m.anySettings {
			groups = []settings{{}}
		}
		for _, s := range groups {
			row(&b, m, s, r)
		}
	}
	head := "\n| PostgreSQL alone, in the same run | s |\n|---|---|\n"
	for _, m := range aloneMeasures {
		if s := r.of(m.id, "", "PostgreSQL"); len(s.values) > 0 {
			fmt.Fprintf(&b, "%s| %s | %s |\n", head, m.title, s)
			head = ""
		}
	}
	requests(&b, r)
	b.WriteString("\nFailures: ")
	if len(r.order) == 0 {
		b.WriteString("none.\n")
		return b.String()
	}
	fmt.Fprintf(&b, "%d.\n\n", len(r.order))
	said := map[key]int{}
	for _, k := range r.order {
		text, _, _ := strings.Cut(r.series[k].failures[said[k]], "\n")
		said[k]++
		fmt.Fprintf(&b, "- %s %s, %s: %s\n", k.system, k.settings, k.measure, text)
	}
	return b.String()
}

func row(b *strings.Builder, m measure, s settings, r *results) {
	ours, theirs := r.of(m.id, s.name, "Regent"), r.of(m.id, s.name, "Patroni")
	if len(ours.values)+len(ours.failures)+len(theirs.values)+len(theirs.failures) == 0 {
		return
	}
	name := s.name
	if m.anySettings {
		name = "any"
	}
	if m.sum {
		fmt.Fprintf(b, "| %s | %s | %s | %s | | | |\n", m.title, name, ours.total(), theirs.total())
		return
	}
	better, text, met := "", "", ""
	if len(ours.values) > 0 && len(theirs.values) > 0 {
		better = ratio(ours.median(), theirs.median(), m.more)
	}
	if m.aim != nil {
		a := m.aim(s, theirs)
		text, met = a.text, a.verdict(ours)
	}
	fmt.Fprintf(b, "| %s, %s | %s | %s | %s | %s | %s | %s |\n", m.title, m.unit, name, ours, theirs, better, text, met)
}

func ratio(ours, theirs float64, more bool) string {
	if more {
		ours, theirs = theirs, ours
	}
	if ours == 0 {
		return "∞"
	}
	return number(theirs/ours) + " ×"
}

// verdict says whether the aim is met. Whoever fails once does not meet it.
func (a aim) verdict(ours series) string {
	switch {
	case len(ours.failures) > 0:
		return "**not met**"
	case len(ours.values) == 0 || a.none:
		return "unknown"
	case a.worst && slices.Max(ours.values) >= a.below, !a.worst && ours.median() >= a.below:
		return "**not met**"
	default:
		return "met"
	}
}

// requests shows what the requests to the store are.
func requests(b *strings.Builder, r *results) {
	for _, k := range slices.SortedFunc(maps.Keys(r.details), compareKeys) {
		parts := r.details[k]
		var words []string
		for _, method := range slices.SortedFunc(maps.Keys(parts), func(a, b string) int { return strings.Compare(a, b) }) {
			words = append(words, fmt.Sprintf("%s %s", method, number(parts[method])))
		}
		fmt.Fprintf(b, "\nRequests of %s, \"%s\", per member and minute: %s.\n", k.system, k.settings, strings.Join(words, ", "))
	}
}
