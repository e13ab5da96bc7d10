package main

import (
	"strings"
	"testing"

	"github.com/regent-ha/regent/test/chaos/history"
	"github.com/regent-ha/regent/test/chaos/verdict"
)

// What the machine did not allow stands in the summary, which is what people read.
func TestReportTellsWhatWasLeftOut(t *testing.T) {
	h := history.History{Run: history.Run{Seed: 7}}
	const line = "Left out, as the machine does not allow it"
	if text := report(h, verdict.Judge(h)); strings.Contains(text, line) {
		t.Errorf("nothing was left out: have\n%s", text)
	}
	h.Run.LeftOut = []string{"clocks: not permitted"}
	if text := report(h, verdict.Judge(h)); !strings.Contains(text, line+": clocks: not permitted.") {
		t.Errorf("have\n%s\nwant a line with what was left out", text)
	}
}
