package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// The table stands between these marks.
const (
	tableBegin = "<!-- mutations: go run ./test/mutations --tests --write docs/PROOF.md -->"
	tableEnd   = "<!-- /mutations -->"
)

// writeTable replaces the table in a file.
func writeTable(file string, list []outcome, tests bool) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(b), tableBegin)
	_, after, closed := strings.Cut(rest, tableEnd)
	if !ok || !closed {
		return fmt.Errorf("write the table into %s: want the marks %s and %s in it", file, tableBegin, tableEnd)
	}
	return os.WriteFile(file, []byte(before+tableBegin+"\n"+table(list, tests)+tableEnd+after), 0o644)
}

// table is the outcome in markdown.
func table(list []outcome, tests bool) string {
	var b strings.Builder
	b.WriteString("| mutation | caught by | after schedules | time |")
	if tests {
		b.WriteString(" unit tests and transcripts |")
	}
	b.WriteString("\n|---|---|---|---|")
	if tests {
		b.WriteString("---|")
	}
	b.WriteString("\n")
	for _, r := range list {
		oracle, schedules := r.Oracle, fmt.Sprint(r.Schedules)
		if oracle == "" {
			oracle = "–"
		}
		if r.Open != "" {
			oracle = "open: " + r.Open
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |", r.Name, oracle, schedules, r.Took.Round(100*time.Millisecond))
		if tests {
			seen := r.Tests
			if seen == "" {
				seen = "–"
			}
			fmt.Fprintf(&b, " %s |", seen)
		}
		b.WriteString("\n")
	}
	return b.String()
}
