package scenario

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// report collects the figures of a run, for people.
var report struct {
	sync.Mutex
	rows []row
}

type row struct {
	what          string
	outage, whole time.Duration
	before, after State
	lost, acked   int
}

func note(r row) {
	report.Lock()
	defer report.Unlock()
	report.rows = append(report.rows, r)
}

// table is Markdown.
func table(rows []row) string {
	var b strings.Builder
	b.WriteString("| what | write outage | whole again | leader | timeline | rows lost of |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %.2f s | %.1f s | %s → %s | %d → %d | %d of %d |\n", r.what, r.outage.Seconds(), r.whole.Seconds(),
			r.before.Leader, r.after.Leader, r.before.Timeline, r.after.Timeline, r.lost, r.acked)
	}
	return b.String()
}

// TestMain prints the figures at the end, and writes them to REGENT_KUBE_REPORT.
func TestMain(m *testing.M) {
	code := m.Run()
	if text := table(report.rows); len(report.rows) > 0 {
		fmt.Print("\n", text)
		if path := os.Getenv("REGENT_KUBE_REPORT"); path != "" {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
	os.Exit(code)
}
