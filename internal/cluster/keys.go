package cluster

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Encode writes key initialize: the system identifier, or nothing while somebody bootstraps.
func (i Initialize) Encode() []byte { return []byte(i.SystemID) }

// DecodeInitialize reads key initialize; an identifier has at least ten digits and nothing else (dcs.md section 1.3).
func DecodeInitialize(value []byte, rev Revision) (Initialize, error) {
	i := Initialize{Present: true, SystemID: string(value), Revision: rev}
	if i.SystemID == "" {
		return i, nil
	}
	if len(i.SystemID) < 10 || strings.Trim(i.SystemID, "0123456789") != "" {
		return Initialize{Present: true, Invalid: true, Revision: rev},
			fmt.Errorf("read value %s: want a system identifier of at least ten digits; the leader replaces it", excerpt(value))
	}
	return i, nil
}

// Encode writes key status (dcs.md section 1.7).
func (s Status) Encode() []byte {
	o := object{{"optime", s.Optime.value()}}
	if len(s.Slots) > 0 {
		var slots object
		for _, name := range ordered(s.Slots, s.SlotOrder) {
			slots.add(name, s.Slots[name].value())
		}
		o.add("slots", slots.value())
	}
	if len(s.RetainSlots) > 0 {
		o.add("retain_slots", texts(s.RetainSlots))
	}
	return o.value().Encode()
}

// ordered returns the map's names: first those of order, then the others sorted.
func ordered[V any](m map[string]V, order []string) []string {
	var names []string
	seen := make(map[string]bool, len(m))
	for _, name := range append(slices.Clip(order), slices.Sorted(maps.Keys(m))...) {
		if _, ok := m[name]; ok && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// DecodeStatus reads key status. A bare integer is the position alone; in the annotations of Kubernetes
// the fields are JSON in strings.
func DecodeStatus(value []byte, rev Revision) (Status, error) {
	s := Status{Revision: rev}
	v, err := ParseValue(value)
	switch {
	case err != nil:
		return s, fmt.Errorf("read value %s: %w", excerpt(value), err)
	case v.Kind == Number:
		s.Optime = v.lsn()
		return s, nil
	case v.Kind != Object:
		return s, fmt.Errorf("read value %s: have %s, want a JSON object or an integer", excerpt(value), v.Kind)
	}
	s.Optime = v.field("optime").lsn()
	s.Slots, s.SlotOrder = v.field("slots").Slots()
	for _, item := range v.field("retain_slots").unpacked(Array).Items {
		if item.Kind == String {
			s.RetainSlots = append(s.RetainSlots, item.Text)
		}
	}
	return s, nil
}

// Slots reads positions by slot, and the slots' order; nil when there is none.
func (v Value) Slots() (slots map[string]LSN, order []string) {
	for _, f := range v.unpacked(Object).Fields {
		if slots == nil {
			slots = map[string]LSN{}
		}
		slots[f.Name] = f.Value.lsn()
		order = append(order, f.Name)
	}
	return slots, order
}

// unpacked returns a value of the wanted kind, also when it is JSON inside a string; null for anything else.
func (v Value) unpacked(want Kind) Value {
	if v.Kind == String {
		v, _ = ParseValue([]byte(v.Text)) // unreadable is null, that is, unset
	}
	if v.Kind != want {
		return Value{}
	}
	return v
}

// EncodeOptime writes key optime/leader, for members before 2.1.0.
func EncodeOptime(l LSN) []byte { return []byte(l.value().Text) }

// DecodeOptime reads key optime/leader.
func DecodeOptime(value []byte, rev Revision) (Status, error) {
	at := Text(strings.TrimSpace(string(value))).lsn()
	if at == 0 {
		return Status{Revision: rev}, fmt.Errorf("read value %s: want a WAL position in decimal", excerpt(value))
	}
	return Status{Optime: at, Revision: rev}, nil
}

// Encode writes key failover; no request is {} (dcs.md section 1.8).
func (f Failover) Encode() []byte {
	var o object
	o.addText("leader", f.From)
	o.addText("member", f.Candidate)
	if f.ScheduledAt != nil {
		o.addText("scheduled_at", FormatTime(*f.ScheduledAt))
	}
	return o.value().Encode()
}

// DecodeFailover reads key failover, also its first form, "leader:candidate". A schedule that cannot be
// used is no error: it is a stale request, which the leader clears.
func DecodeFailover(value []byte, rev Revision) (Failover, error) {
	f := Failover{Revision: rev}
	v, err := ParseValue(value)
	if text := strings.TrimSpace(string(value)); err != nil && text != "" && !strings.ContainsAny(text[:1], `{["`) {
		from, candidate, _ := strings.Cut(text, ":")
		f.From, f.Candidate = strings.TrimSpace(from), strings.TrimSpace(candidate)
		return f, nil
	} else if text == "" || v.Kind == Null && err == nil {
		return f, nil
	}
	if v, err = parseObjectKey(value); err != nil {
		return f, err
	}
	f.From, f.Candidate = v.text("leader"), v.text("member")
	if at := v.field("scheduled_at"); at.Truthy() {
		t, err := ParseTime(at.String())
		if err != nil {
			f.BadSchedule = true
		} else {
			f.ScheduledAt = &t
		}
	}
	return f, nil
}

// Encode writes key sync: without a leader {}, else always three fields (dcs.md section 1.9).
func (s Sync) Encode() []byte {
	if s.Leader == "" {
		return []byte("{}")
	}
	standbys := Value{}
	if len(s.Standbys) > 0 {
		standbys = Text(strings.Join(slices.Sorted(slices.Values(s.Standbys)), ","))
	}
	return object{{"leader", Text(s.Leader)}, {"quorum", Int(int64(s.Quorum))}, {"sync_standby", standbys}}.value().Encode()
}

// DecodeSync reads key sync. Without a leader, or with a quorum that is no number, it says nothing at all.
func DecodeSync(value []byte, rev Revision) (Sync, error) {
	none := Sync{Revision: rev}
	if len(value) == 0 {
		return none, nil
	}
	v, err := parseObjectKey(value)
	if err != nil {
		return none, err
	}
	s := Sync{Leader: v.text("leader"), Revision: rev}
	if s.Leader == "" {
		return none, nil
	}
	if q := v.field("quorum"); q.Truthy() {
		n, ok := q.integer("")
		if !ok || n > math.MaxInt32 {
			return none, fmt.Errorf("read quorum %s: want an integer; the whole key counts as empty", excerpt(q.Encode()))
		}
		s.Quorum = int(max(n, 0))
	}
	for name := range strings.SplitSeq(v.text("sync_standby"), ",") {
		if name = strings.TrimSpace(name); name != "" {
			s.Standbys = append(s.Standbys, name)
		}
	}
	slices.Sort(s.Standbys)
	s.Standbys = slices.Compact(s.Standbys)
	return s, nil
}

// HasStandby says whether the member is a synchronous standby; names compare without case.
func (s Sync) HasStandby(name string) bool {
	return slices.ContainsFunc(s.Standbys, func(n string) bool { return strings.EqualFold(n, name) })
}

// Has says whether the member is the leader of the key or one of its standbys; names compare without case.
func (s Sync) Has(name string) bool {
	return s.Leader != "" && (strings.EqualFold(s.Leader, name) || s.HasStandby(name))
}

// Encode writes key history: a list of lists, each as long as what is known (dcs.md section 1.10).
func (h History) Encode() []byte {
	v := Value{Kind: Array}
	for _, e := range h.Entries {
		line := Value{Kind: Array, Items: []Value{Int(int64(e.Timeline)), e.LSN.value(), Text(e.Reason)}}
		if e.Timestamp != "" || e.NewLeader != "" {
			line.Items = append(line.Items, Text(e.Timestamp))
		}
		if e.NewLeader != "" {
			line.Items = append(line.Items, Text(e.NewLeader))
		}
		v.Items = append(v.Items, line)
	}
	return v.Encode()
}

// DecodeHistory reads key history. An entry without a timeline is left out; if it is the last one, the
// cluster's timeline is unknown and the history unusable.
func DecodeHistory(value []byte, rev Revision) (History, error) {
	h := History{Revision: rev}
	v, err := ParseValue(value)
	if err != nil {
		return h, fmt.Errorf("read value %s: %w", excerpt(value), err)
	}
	if v.Kind != Array {
		return h, fmt.Errorf("read value %s: have %s, want a JSON array", excerpt(value), v.Kind)
	}
	h.Present = true
	var problems []error
	for i, line := range v.Items {
		e := HistoryEntry{Timeline: line.item(0).timeline(), LSN: line.item(1).lsn(), Reason: line.item(2).content(),
			Timestamp: line.item(3).content(), NewLeader: line.item(4).content()}
		if e.Timeline != 0 {
			h.Entries = append(h.Entries, e)
			continue
		}
		problems = append(problems, fmt.Errorf("read entry %d, %s: want [timeline, position, reason, time, leader]", i+1, excerpt(line.Encode())))
		if i == len(v.Items)-1 {
			return History{Revision: rev}, errors.Join(problems...)
		}
	}
	return h, errors.Join(problems...)
}

// item returns an array's item, null beyond its end.
func (v Value) item(i int) Value {
	if i >= len(v.Items) {
		return Value{}
	}
	return v.Items[i]
}

// content returns the text of a string, "" of anything else.
func (v Value) content() string {
	if v.Kind == String {
		return v.Text
	}
	return ""
}

// EncodeFailsafe writes key failsafe: the names of order first, the others sorted (dcs.md section 1.11).
func EncodeFailsafe(urls map[string]string, order []string) []byte {
	var o object
	for _, name := range ordered(urls, order) {
		o.add(name, Text(urls[name]))
	}
	return o.value().Encode()
}

// DecodeFailsafe reads key failsafe and the order of its names. A member whose URL is no string keeps its
// place with an empty one: it may not be left out of the question whether everybody agrees.
func DecodeFailsafe(value []byte) (urls map[string]string, order []string, err error) {
	v, err := parseObjectKey(value)
	if err != nil {
		return nil, nil, err
	}
	urls = make(map[string]string, len(v.Fields))
	for _, f := range v.Fields {
		urls[f.Name] = f.Value.content()
		order = append(order, f.Name)
	}
	return urls, order, nil
}

// DecodeConfig reads key config. A value that is no object is not usable: its last good one goes on to count.
func DecodeConfig(value []byte, rev Revision) (DynamicConfig, error) {
	v, err := parseObjectKey(value)
	if err != nil {
		return DynamicConfig{Revision: rev}, err
	}
	return DynamicConfig{Document: v, Revision: rev, Usable: true}, nil
}

// Encode writes the document, compact.
func (c DynamicConfig) Encode() []byte { return c.Document.Encode() }
