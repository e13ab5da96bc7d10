package ctl

import (
	"fmt"
	"strings"
)

// edit is one line of a difference: kept, removed or added.
type edit struct {
	sign byte // ' ', '-', '+'
	line string
}

// unifiedDiff shows how two texts differ, with three lines of context; empty when they are equal. The
// header lines are "--- " and "+++ ", with a trailing blank and no names.
func unifiedDiff(before, after string) []string {
	const context = 3
	edits := lineEdits(strings.Split(strings.TrimSuffix(before, "\n"), "\n"), strings.Split(strings.TrimSuffix(after, "\n"), "\n"))
	var lines []string
	for start := 0; start < len(edits); {
		first := start
		for first < len(edits) && edits[first].sign == ' ' {
			first++
		}
		if first == len(edits) {
			break
		}
		last := first // the last change of this hunk: the next one is further away than two contexts
		for i := first; i < len(edits) && i-last <= 2*context; i++ {
			if edits[i].sign != ' ' {
				last = i
			}
		}
		from, to := max(first-context, start), min(last+1+context, len(edits))
		if lines == nil {
			lines = []string{"--- ", "+++ "}
		}
		lines = append(lines, hunk(edits, from, to)...)
		start = to
	}
	return lines
}

func hunk(edits []edit, from, to int) []string {
	position := func(skip byte) (line, count int) {
		for i, e := range edits[:to] {
			if e.sign == skip {
				continue
			}
			if i < from {
				line++
			} else {
				count++
			}
		}
		if count > 0 {
			line++ // an empty range names the line before it
		}
		return line, count
	}
	span := func(skip byte) string {
		line, count := position(skip)
		if count == 1 {
			return fmt.Sprint(line)
		}
		return fmt.Sprintf("%d,%d", line, count)
	}
	lines := []string{fmt.Sprintf("@@ -%s +%s @@", span('+'), span('-'))}
	for _, e := range edits[from:to] {
		lines = append(lines, string(e.sign)+e.line)
	}
	return lines
}

// lineEdits is a shortest way from a to b; removals come before additions. Configurations are short, so
// the quadratic table does not matter.
func lineEdits(a, b []string) []edit {
	common := make([][]int, len(a)+1) // length of the longest common sequence of a[i:] and b[j:]
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var edits []edit
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			edits = append(edits, edit{' ', a[i]})
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			edits = append(edits, edit{'-', a[i]})
			i++
		default:
			edits = append(edits, edit{'+', b[j]})
			j++
		}
	}
	return edits
}
