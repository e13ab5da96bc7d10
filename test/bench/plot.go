package main

import (
	"fmt"
	"math"
	"strings"
)

// The plot shows each outage that was measured as a dot on a logarithmic axis, the median as a line, a failure as a cross at the right edge.

const (
	plotLeft, plotRight, plotWidth = 330, 40, 1000 // of the whole width, for names and for failures
	laneHeight, plotTop            = 16, 46
	shortest, longest              = 0.01, 100.0 // seconds, of the axis
)

// colours of the systems, which differ also in brightness.
var colours = map[string]string{"Regent": "#1b6ca8", "Patroni": "#d9822b"}

// across is where a time stands on the axis.
func across(seconds float64) float64 {
	share := math.Log(min(max(seconds, shortest), longest)/shortest) / math.Log(longest/shortest)
	return plotLeft + share*(plotWidth-plotLeft-plotRight)
}

// plot draws the outages as SVG.
func plot(f facts, r *results) string {
	var lanes strings.Builder
	y := plotTop
	for _, m := range measures {
		if m.unit != "s" || !strings.HasPrefix(m.title, "write outage") {
			continue
		}
		for _, s := range f.settings {
			before := y
			for _, system := range []string{"Regent", "Patroni"} {
				if v := r.of(m.id, s.name, system); len(v.values)+len(v.failures) > 0 {
					lane(&lanes, system, v, y+laneHeight/2)
					y += laneHeight
				}
			}
			if y > before {
				fmt.Fprintf(&lanes, "<text x=\"8\" y=\"%d\">%s, %s</text>\n", (before+y)/2+4, strings.TrimPrefix(m.title, "write outage "), s.name)
				y += laneHeight / 2
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n", plotWidth, y+laneHeight)
	fmt.Fprintf(&b, "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n", plotWidth, y+laneHeight)
	for _, t := range []float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100} {
		fmt.Fprintf(&b, "<path d=\"M%.1f %d V%d\" stroke=\"#dddddd\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\" fill=\"#555555\">%g s</text>\n", across(t), plotTop-6, y, across(t), plotTop-12, t)
	}
	x := 8
	for _, system := range []string{"Regent", "Patroni"} {
		fmt.Fprintf(&b, "<circle cx=\"%d\" cy=\"14\" r=\"4\" fill=\"%s\"/><text x=\"%d\" y=\"18\">%s</text>\n", x+4, colours[system], x+14, system)
		x += 90
	}
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"18\" fill=\"#555555\">write outage, one dot each, the line is the median; rounds: %d</text>\n%s</svg>\n", x, f.rounds, lanes.String())
	return b.String()
}

// lane draws one series at a height.
func lane(b *strings.Builder, system string, s series, y int) {
	colour := colours[system]
	for _, v := range s.values {
		fmt.Fprintf(b, "<circle cx=\"%.1f\" cy=\"%d\" r=\"4\" fill=\"%s\" fill-opacity=\"0.55\"><title>%s %s s</title></circle>\n", across(v), y, colour, system, number(v))
	}
	if len(s.values) > 0 {
		fmt.Fprintf(b, "<path d=\"M%.1f %d v%d\" stroke=\"%s\" stroke-width=\"2\"/>\n", across(s.median()), y-7, 14, colour)
	}
	for i := range s.failures {
		fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" fill=\"%s\">✕</text>\n", plotWidth-plotRight+8+10*i, y+4, colour)
	}
}
