package ctl

import (
	"strings"
	"unicode/utf8"
)

// column is one column of a table.
type column struct {
	name    string // in machine formats
	heading string // in the pretty format; empty: the name
	right   bool   // aligned right
}

// row has one value per column: cluster.Null where there is nothing to say.
type row []value

// prettyTable draws a table with borders. The title overwrites the top border from its second
// character on. Rows are separated by borders as soon as one cell has several lines (ctl.md 4.2).
func prettyTable(title string, columns []column, rows [][]string) string {
	widths := make([]int, len(columns))
	cells := make([][][]string, 0, len(rows)+1)
	separate := false
	for i, r := range append([][]string{headings(columns)}, rows...) {
		cells = append(cells, make([][]string, len(columns)))
		for c, text := range r {
			cells[i][c] = strings.Split(text, "\n")
			separate = separate || len(cells[i][c]) > 1
			for _, l := range cells[i][c] {
				widths[c] = max(widths[c], utf8.RuneCountInString(l))
			}
		}
	}
	var border strings.Builder
	for _, w := range widths {
		border.WriteString("+" + strings.Repeat("-", w+2))
	}
	border.WriteString("+\n")

	var b strings.Builder
	b.WriteString(titled(border.String(), title))
	for i, r := range cells {
		writeRow(&b, columns, widths, r)
		if i == 0 || separate || i == len(cells)-1 {
			b.WriteString(border.String())
		}
	}
	if len(rows) == 0 {
		b.WriteString(border.String())
	}
	return b.String()
}

func titled(border, title string) string {
	if title == "" {
		return border
	}
	room := len(border) - 3 // the corners and the line's end stay
	text := []rune(" " + title + " ")
	if len(text) > room {
		text = text[:room]
	}
	return border[:1] + string(text) + border[1+len(text):]
}

func headings(columns []column) []string {
	h := make([]string, len(columns))
	for i, c := range columns {
		h[i] = c.heading
		if h[i] == "" {
			h[i] = c.name
		}
	}
	return h
}

func writeRow(b *strings.Builder, columns []column, widths []int, cells [][]string) {
	height := 1
	for _, lines := range cells {
		height = max(height, len(lines))
	}
	for l := range height {
		for c, lines := range cells {
			text := ""
			if l < len(lines) {
				text = lines[l]
			}
			pad := strings.Repeat(" ", widths[c]-utf8.RuneCountInString(text))
			if columns[c].right {
				b.WriteString("| " + pad + text + " ")
			} else {
				b.WriteString("| " + text + pad + " ")
			}
		}
		b.WriteString("|\n")
	}
}
