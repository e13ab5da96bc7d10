package ctl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// listing is what the table of a cluster shows, and how.
type listing struct {
	format   string // one of formats, or topology
	extended bool   // -e: the optional columns always
	wide     bool   // 4.1's columns in the pretty format too
	grouped  bool   // one group of a Citus cluster was asked for
}

// columns of a listing (ctl.md 4.1); the narrow layout has one lag and no positions (ctl.md 4.7).
func (l listing) columns(members []shown, citus bool) []column {
	machine := !l.pretty()
	columns := []column{{name: "Member"}, {name: "Host"}, {name: "Role"}, {name: "State"}, {name: "TL", right: true}}
	if citus && (machine || !l.grouped) {
		columns = slices.Insert(columns, 0, column{name: "Group", right: true})
	}
	if machine {
		columns = slices.Insert(columns, 0, column{name: "Cluster"})
	}
	if machine || l.wide {
		columns = append(columns,
			column{name: "Receive LSN", right: true}, column{name: "Receive Lag", heading: "Lag", right: true},
			column{name: "Replay LSN", right: true}, column{name: "Replay Lag", heading: "Lag", right: true})
	} else {
		columns = append(columns, column{name: "Lag in MB", right: true})
	}
	for _, name := range []string{"Pending restart", "Pending restart reason", "Scheduled restart", "Tags"} {
		has := func(m shown) bool { return m.host != "" && l.cell("", name, m, false).Kind != cluster.Null }
		if l.extended || slices.ContainsFunc(members, has) {
			columns = append(columns, column{name: name})
		}
	}
	return columns
}

func (l listing) pretty() bool { return l.format == "pretty" || l.format == "topology" }

// cell is one member's value in a column.
func (l listing) cell(scope, name string, m shown, ports bool) value {
	receive, receiveLag, replay, replayLag := m.positions()
	switch name {
	case "Cluster":
		return cluster.Text(scope)
	case "Group":
		return cluster.Int(int64(*m.group))
	case "Member":
		return cluster.Text(m.treePrefix + m.Name)
	case "Host":
		return cluster.Text(m.address(ports))
	case "Role":
		return cluster.Text(roleNames[m.role])
	case "State":
		if l.pretty() && !l.wide && m.state == cluster.StateStreaming {
			return cluster.Text(string(m.State)) // releases of the narrow layout said so
		}
		return cluster.Text(m.state)
	case "TL":
		if m.Timeline != 0 {
			return cluster.Int(int64(m.Timeline))
		}
	case "Receive LSN":
		return receive
	case "Receive Lag":
		return receiveLag
	case "Replay LSN":
		return replay
	case "Replay Lag":
		return replayLag
	case "Lag in MB":
		return m.lag()
	case "Pending restart":
		if m.PendingRestart {
			return cluster.Text("*")
		}
	case "Pending restart reason":
		return l.pendingReason(m)
	case "Scheduled restart":
		return scheduledRestart(m)
	case "Tags":
		if len(m.Tags) > 0 {
			return value{Kind: cluster.Object, Fields: m.Tags}
		}
	}
	return value{}
}

// pendingReason hides what would make the table too wide, in the formats for people only.
func (l listing) pendingReason(m shown) value {
	const most = 50
	lines := make([]string, 0, len(m.PendingRestartReason))
	for _, p := range m.PendingRestartReason {
		line := fmt.Sprintf("%s: %s->%s", p.Name, p.Old, p.New)
		if l.pretty() && len([]rune(line)) > most {
			line = p.Name + ": [hidden - too long]"
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return value{}
	}
	return cluster.Text(strings.Join(lines, "\n"))
}

func scheduledRestart(m shown) value {
	s := m.ScheduledRestart
	if s == nil || s.Schedule == "" {
		return value{}
	}
	text := s.Schedule
	if s.PostgresVersion != "" {
		text += " if version < " + s.PostgresVersion
	}
	return cluster.Text(text)
}

// render prints the table of a cluster in the format that was asked for.
func (l listing) render(scope string, parts []part) string {
	members, citus := []shown{}, false
	for _, p := range parts {
		members = append(members, l.ordered(p)...)
		citus = citus || p.group != nil
	}
	columns, ports := l.columns(members, citus), showPorts(members)
	rows := make([]row, 0, len(members))
	for _, m := range members {
		r := make(row, 0, len(columns))
		for _, c := range columns {
			r = append(r, l.cell(scope, c.name, m, ports))
		}
		rows = append(rows, r)
	}
	if !l.pretty() {
		return output(l.format, columns, rows, false)
	}
	return prettyTable(l.title(scope, parts, citus), columns, l.texts(columns, rows)) + l.trailer(parts, citus)
}

// texts are the cells of the formats for people: tags one per line, but for topology.
func (l listing) texts(columns []column, rows []row) [][]string {
	texts := make([][]string, 0, len(rows))
	for _, r := range rows {
		line := make([]string, 0, len(r))
		for i, v := range r {
			text := plain(v)
			if v.Kind == cluster.Object && columns[i].name == "Tags" && l.format == "pretty" {
				text = strings.TrimSuffix(blockYAML(v, 80), "\n")
			}
			line = append(line, text)
		}
		texts = append(texts, line)
	}
	return texts
}

func (l listing) title(scope string, parts []part, citus bool) string {
	id := "uninitialized"
	if len(parts) > 0 && parts[0].Initialize.Present {
		id = "initializing"
		if s := parts[0].Initialize.SystemID; s != "" {
			id = s
		}
	}
	switch {
	case citus && l.grouped:
		return fmt.Sprintf("Citus cluster: %s (group: %d, %s)", scope, *parts[0].group, id)
	case citus:
		return "Citus cluster: " + scope
	default:
		return fmt.Sprintf("Cluster: %s (%s)", scope, id)
	}
}

// trailer says what else matters: maintenance mode and a planned switchover (ctl.md 4.5).
func (l listing) trailer(parts []part, citus bool) string {
	var b strings.Builder
	for _, p := range parts {
		text := p.notes()
		if text != "" && citus && !l.grouped {
			b.WriteString("Citus group: " + strconv.Itoa(*p.group) + "\n")
		}
		b.WriteString(text)
	}
	return b.String()
}

func (p part) notes() string {
	var b strings.Builder
	if p.Config.Paused() {
		b.WriteString(" Maintenance mode: on\n")
	}
	if f := p.Failover; f.ScheduledAt != nil {
		fmt.Fprintf(&b, "%24s: %s\n", "Switchover scheduled at", cluster.FormatTime(*f.ScheduledAt))
		if f.From != "" {
			fmt.Fprintf(&b, "%24s: %s\n", "from", f.From)
		}
		if f.Candidate != "" {
			fmt.Fprintf(&b, "%24s: %s\n", "to", f.Candidate)
		}
	}
	return b.String()
}

// ordered sorts members by name, or as a tree of who follows whom (ctl.md 4.4).
func (l listing) ordered(p part) []shown {
	members := p.members()
	if l.format != "topology" {
		return members
	}
	tree := make([]shown, 0, len(members))
	below := map[string][]shown{} // by the name of the member above; "" is the leader or nobody
	for _, m := range members {
		from := m.Tags.ReplicateFrom()
		isAnother := func(o shown) bool { return o.Name == from && !o.holdsLock && from != m.Name }
		switch {
		case m.holdsLock:
			tree = append(tree, m)
		case slices.ContainsFunc(members, isAnother):
			below[from] = append(below[from], m)
		default:
			below[""] = append(below[""], m)
		}
	}
	var grow func(above string, depth int)
	grow = func(above string, depth int) {
		for _, m := range below[above] {
			m.treePrefix = strings.Repeat("  ", depth) + "+ "
			tree = append(tree, m)
			grow(m.Name, depth+1)
		}
	}
	grow("", 0)
	return tree
}

// read opens the cluster and takes a snapshot, or one of every group of a Citus cluster.
func (p *Program) read(ctx context.Context, site *Site, scope string, group *int) ([]part, error) {
	groups := []*int{group}
	if site.Citus && group == nil {
		numbers, err := bounded(ctx, func(ctx context.Context) ([]int, error) { return site.Groups(ctx, scope) })
		if err != nil {
			return nil, fmt.Errorf("list the groups of cluster %s: %w", scope, err)
		}
		groups = groups[:0]
		for _, n := range numbers {
			groups = append(groups, &n)
		}
	}
	var parts []part
	for _, g := range groups {
		snapshot, err := p.snapshot(ctx, site, scope, g)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part{g, snapshot})
	}
	return parts, nil
}

func (p *Program) snapshot(ctx context.Context, site *Site, scope string, group *int) (*cluster.Snapshot, error) {
	if p.report != nil {
		p.report.Cluster = scope
	}
	store, err := site.Open(ctx, scope, group)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	s, err := bounded(ctx, store.Snapshot)
	switch {
	case errors.Is(err, dcs.ErrUnavailable):
		return nil, fmt.Errorf("read cluster %s: no answer from the store at %s within %s; check that it runs and that it can be reached from here", scope, site.Where, StoreTimeout)
	case err != nil:
		return nil, fmt.Errorf("read cluster %s from the store at %s: %w", scope, site.Where, err)
	}
	return s, nil
}

// bounded gives one access to the store its time.
func bounded[T any](ctx context.Context, access func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, StoreTimeout)
	defer cancel()
	return access(ctx)
}
