package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// The table stands between these marks.
const (
	tableBegin = "<!-- mutations: go run ./test/mutations --write -->"
	tableEnd   = "<!-- /mutations -->"
)

// writeTable replaces the table in a file.
func writeTable(file string, list []outcome) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, _, after, ok := cutTable(string(b))
	if !ok {
		return fmt.Errorf("write the table into %s: want the marks %s and %s in it", file, tableBegin, tableEnd)
	}
	return os.WriteFile(file, []byte(before+tableBegin+"\n"+table(list)+tableEnd+after), 0o644)
}

func cutTable(text string) (before, table, after string, ok bool) {
	before, rest, begun := strings.Cut(text, tableBegin)
	table, after, ended := strings.Cut(rest, tableEnd)
	return before, table, after, begun && ended
}

// table is the outcome in markdown.
func table(list []outcome) string {
	var b strings.Builder
	row := func(columns ...string) {
		for i, c := range columns {
			if c == "" {
				columns[i] = "–"
			}
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(columns, " | "))
	}
	row("mutation", "caught by", "seed")
	b.WriteString("|---|---|---|\n")
	for _, r := range list {
		switch {
		case r.Open != "":
			row(r.Name, "open: "+r.Open, "")
		case r.Oracle == "":
			row(r.Name, "", fmt.Sprintf("none of %d", r.Seeds))
		default:
			row(r.Name, r.Oracle, strconv.Itoa(r.Seed))
		}
	}
	for _, d := range notPlayed {
		row(d.defect, d.why, "")
	}
	return b.String()
}

// recorded reads the seeds back from a text with the table, by the name of the mutation.
func recorded(text string) map[string]int {
	seeds := map[string]int{}
	_, table, _, _ := cutTable(text)
	for line := range strings.Lines(table) {
		columns := strings.Split(strings.Trim(line, "| \n"), " | ")
		if len(columns) != 3 {
			continue
		}
		if seed, err := strconv.Atoi(columns[2]); err == nil {
			seeds[columns[0]] = seed
		}
	}
	return seeds
}
