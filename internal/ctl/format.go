package ctl

import (
	"slices"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
)

// value is one cell. A null is empty; a number, a text or an object prints as such.
type value = cluster.Value

// formats are the values of -f.
var formats = []string{"pretty", "tsv", "json", "yaml", "yml"}

// output prints rows in a machine format: keepEmpty keeps empty values in json and yaml, as history
// has them and list does not (ctl.md 4.2, 4.8).
func output(format string, columns []column, rows []row, keepEmpty bool) string {
	switch format {
	case "tsv":
		return tsv(columns, rows)
	case "json":
		return string(objects(columns, rows, keepEmpty).EncodeSpaced()) + "\n"
	default:
		return blockYAML(objects(columns, rows, keepEmpty), 80) + "\n"
	}
}

func objects(columns []column, rows []row, keepEmpty bool) value {
	list := value{Kind: cluster.Array}
	for _, r := range rows {
		object := value{Kind: cluster.Object}
		for i, c := range columns {
			v := r[i]
			if empty := v.Kind == cluster.Null || v.Kind == cluster.String && v.Text == ""; empty && !keepEmpty {
				continue
			} else if empty {
				v = cluster.Text("")
			}
			object.Fields = append(object.Fields, cluster.Field{Name: c.name, Value: v})
		}
		list.Items = append(list.Items, object)
	}
	return list
}

// tsv separates by tabs and quotes nothing.
func tsv(columns []column, rows []row) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	lines := []string{strings.Join(names, "\t")}
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, v := range r {
			cells[i] = plain(v)
		}
		lines = append(lines, strings.Join(cells, "\t"))
	}
	return strings.Join(lines, "\n") + "\n"
}

// plain is the text of a cell on one line.
func plain(v value) string {
	switch v.Kind {
	case cluster.Null:
		return ""
	case cluster.Object, cluster.Array:
		return flowYAML(v)
	default:
		return v.Text
	}
}

func sortedFields(v value) []cluster.Field {
	return slices.SortedStableFunc(slices.Values(v.Fields), func(a, b cluster.Field) int { return strings.Compare(a.Name, b.Name) })
}
