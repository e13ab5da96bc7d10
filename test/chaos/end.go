package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/regent-ha/regent/test/chaos/history"
)

// settleBound is how long the members may take to have the same data after the applications have stopped.
const settleBound = 5 * time.Minute

// finish collects what every member has when the applications have stopped.
func (p *play) finish(ctx context.Context) {
	end := history.End{Members: map[string]history.Copy{}, Dropped: p.site.wires.Dropped()}
	for deadline := time.Now().Add(settleBound); ; {
		if l := p.leader(ctx); l != nil {
			end.Leader = l.name
		}
		for _, m := range p.site.members {
			c, err := m.collect(ctx)
			if err != nil {
				p.say("  what %s has in the end: %v", m.name, err)
				continue
			}
			end.Members[m.name] = c
		}
		if same(end, len(p.site.members)) || time.Now().After(deadline) || !sleep(ctx, time.Second) {
			break
		}
	}
	end.At = p.record.Now()
	p.record.Note(history.Event{End: &end})
}

// same says whether everybody has the leader's tables.
func same(end history.End, members int) bool {
	leader := end.Members[end.Leader]
	for name, c := range end.Members {
		for table, sum := range leader.Sums {
			if c.Sums[table] != sum || name != end.Leader && !c.Streams {
				return false
			}
		}
	}
	return len(end.Members) == members
}

// collect reads what a member has.
func (m *member) collect(ctx context.Context) (c history.Copy, err error) {
	one := func(sql string) string {
		if err != nil {
			return ""
		}
		var lines []string
		if lines, err = m.query(ctx, sql); err == nil && len(lines) != 1 {
			err = fmt.Errorf("%s: %s: have %d rows, want 1", m.name, sql, len(lines))
		}
		if err != nil {
			return ""
		}
		return lines[0]
	}
	c.SystemID = one("select system_identifier from pg_control_system()")
	// A primary knows its timeline by the WAL that it writes; what its last checkpoint says may be older.
	tl := one("select case when pg_is_in_recovery() then (select received_tli::bigint from pg_stat_wal_receiver) else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint end")
	c.Streams = one("select exists (select from pg_stat_wal_receiver where status = 'streaming')") == "t"
	c.Sums = map[string]string{
		"numbered": one("select count(*) || ' ' || md5(coalesce(string_agg(id || member, ',' order by id), '')) from numbered"),
		"list":     one("select count(*) || ' ' || md5(coalesce(string_agg(key || '=' || items::text, ',' order by key), '')) from list"),
		"register": one("select count(*) || ' ' || md5(string_agg(key || '=' || value, ',' order by key)) from register"),
	}
	if err != nil {
		return c, err
	}
	number, _ := strconv.ParseUint(tl, 10, 32)
	c.Timeline = uint32(number)
	values, err := m.query(ctx, "select key, value from register")
	if err != nil {
		return c, err
	}
	c.Values = map[int]int64{}
	for _, line := range values {
		key, value, _ := strings.Cut(line, "|")
		k, _ := strconv.Atoi(key)
		c.Values[k], _ = strconv.ParseInt(value, 10, 64)
	}
	if c.Lists, err = m.lists(ctx); err != nil {
		return c, err
	}
	ranges, err := m.query(ctx, "select min(id), max(id) from (select id, id - row_number() over (order by id) as gap from numbered) g group by gap order by 1")
	if err != nil {
		return c, err
	}
	for _, line := range ranges {
		var from, to int64
		if _, err := fmt.Sscanf(line, "%d|%d", &from, &to); err != nil {
			return c, err
		}
		c.Rows = append(c.Rows, [2]int64{from, to})
	}
	if c.Timeline > 1 {
		text := one(fmt.Sprintf("select pg_read_file('pg_wal/%08X.history')", c.Timeline))
		c.Switches = switches(text)
	}
	return c, err
}

// lists are all lists of a member.
func (m *member) lists(ctx context.Context) (map[int][]int64, error) {
	lines, err := m.query(ctx, "select key, array_to_string(items, ' ') from list")
	if err != nil {
		return nil, err
	}
	all := make(map[int][]int64, len(lines))
	for _, line := range lines {
		key, items, _ := strings.Cut(line, "|")
		k, err := strconv.Atoi(key)
		if err != nil {
			return nil, err
		}
		for text := range strings.FieldsSeq(items) {
			v, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return nil, err
			}
			all[k] = append(all[k], v)
		}
	}
	return all, nil
}

// switches reads a timeline's history file: timeline, position where it was left, reason.
func switches(text string) (list []history.Switch) {
	for line := range strings.SplitSeq(text, "\n") {
		var s history.Switch
		var high, low uint64
		if n, _ := fmt.Sscanf(line, "%d\t%X/%X", &s.Timeline, &high, &low); n == 3 {
			s.LSN = high<<32 | low
			list = append(list, s)
		}
	}
	return list
}
