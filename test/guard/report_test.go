package guard

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// report prints the table.
func report(out io.Writer, results []result, took time.Duration) {
	fmt.Fprintf(out, "\n%d rounds in %s, ttl %s", len(results), took.Round(time.Second), ttl)
	if *without {
		fmt.Fprint(out, ", no guard")
	}
	fmt.Fprint(out, ". Seconds, minimum / median / maximum.\n\n")
	fmt.Fprintln(out, "| scenario | rounds | guard late, ms | last row before the lock's end | last row before the new leader's first | rows beside the new leader | rows lost | failed |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|")
	row := func(name string, of []result) {
		var margins, gaps, late []time.Duration
		failed, twice, lost := 0, 0, 0
		for _, r := range of {
			margins, gaps = append(margins, r.margin), append(gaps, r.gap)
			if r.late > 0 {
				late = append(late, 1000*r.late)
			}
			twice, lost = twice+r.twice, lost+r.lost
			if r.failed {
				failed++
			}
		}
		if len(of) > 0 {
			fmt.Fprintf(out, "| %s | %d | %s | %s | %s | %d | %d | %d |\n", name, len(of), spread(late), spread(margins), spread(gaps), twice, lost, failed)
		}
	}
	for _, s := range scenarios {
		var of []result
		for _, r := range results {
			if r.scenario == s.name {
				of = append(of, r)
			}
		}
		row(s.name, of)
	}
	row("all", results)
}

func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "–"
	}
	slices.Sort(d)
	return fmt.Sprintf("%.2f / %.2f / %.2f", d[0].Seconds(), d[len(d)/2].Seconds(), d[len(d)-1].Seconds())
}
