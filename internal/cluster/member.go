package cluster

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Encode writes the member key's value, field by field in Patroni's order (dcs.md section 1.6).
// What is unknown is left out; Regent's own field comes last.
func (m Member) Encode() []byte {
	o := make(object, 0, 16)
	o.addText("conn_url", m.ConnURL)
	o.addText("api_url", m.APIURL)
	if m.State != UnknownState {
		o.addText("state", string(m.State))
	}
	o.addText("role", string(m.Role))
	o.addText("version", m.Version)
	o.addText("proxy_url", m.ProxyURL)
	if m.CheckpointAfterPromote {
		o.add("checkpoint_after_promote", Flag(false))
	}
	if len(m.Tags) > 0 {
		o.add("tags", Value{Kind: Object, Fields: m.Tags})
	}
	if m.PendingRestart {
		o.add("pending_restart", Flag(true))
	}
	if len(m.PendingRestartReason) > 0 {
		o.add("pending_restart_reason", EncodePending(m.PendingRestartReason))
	}
	o.addLSN("xlog_location", m.XlogLocation)
	o.addLSN("replay_lsn", m.ReplayLSN)
	o.addLSN("receive_lsn", m.ReceiveLSN)
	o.addText("replication_state", m.ReplicationState)
	if m.Timeline != 0 {
		o.add("timeline", Int(int64(m.Timeline)))
	}
	if m.ScheduledRestart != nil {
		o.add("scheduled_restart", m.ScheduledRestart.Value())
	}
	if m.Pause {
		o.add("pause", Flag(true))
	}
	o.addText("regent", m.Regent)
	return o.value().Encode()
}

// EncodePending is the object of pending_restart_reason.
func EncodePending(reasons []PendingParameter) Value {
	var o object
	for _, p := range reasons {
		o.add(p.Name, object{{"old_value", Text(p.Old)}, {"new_value", Text(p.New)}}.value())
	}
	return o.value()
}

// Value is the object of scheduled_restart.
func (r ScheduledRestart) Value() Value {
	var o object
	o.addText("schedule", r.Schedule)
	o.addText("postgres_version", r.PostgresVersion)
	o.addText("role", string(r.Role))
	if r.RestartPending {
		o.add("restart_pending", Flag(true))
	}
	if r.Timeout != 0 {
		o.add("timeout", Int(int64(r.Timeout)))
	}
	start := Value{}
	if r.PostmasterStart != "" {
		start = Text(r.PostmasterStart)
	}
	o.add("postmaster_start_time", start)
	return o.value()
}

// DecodeMember reads a member key. An unreadable value or field leaves what it says unknown and gives
// an error to show; the member exists all the same.
func DecodeMember(name string, value []byte, rev Revision, session string) (Member, error) {
	m := Member{Name: name, Revision: rev, Session: session, State: UnknownState}
	if strings.HasPrefix(string(value), "postgres") { // the only form before Patroni 1.0
		m.ConnURL, m.APIURL = splitConnURL(string(value))
		return m, nil
	}
	v, err := parseObjectKey(value)
	if err != nil {
		return m, err
	}
	var problems []error
	m.ConnURL = v.text("conn_url")
	if kwargs, _ := v.Get("conn_kwargs"); m.ConnURL == "" && kwargs.Kind == Object {
		m.ConnURL = connURLFromParts(kwargs)
	}
	m.APIURL = v.text("api_url")
	if s := v.text("state"); s != "" {
		m.State = State(s)
	}
	m.Role = readRole(v.text("role"))
	m.Version = v.text("version")
	m.ProxyURL = v.text("proxy_url")
	checkpoint, ok := v.Get("checkpoint_after_promote")
	m.CheckpointAfterPromote = ok && checkpoint.Kind == Bool && !checkpoint.Truthy()
	if tags, ok := v.Get("tags"); ok && tags.Kind != Object {
		problems = append(problems, fmt.Errorf("read tags: have %s, want an object; taken for none", tags.Kind))
	} else if len(tags.Fields) > 0 {
		m.Tags = tags.Fields
	}
	m.PendingRestart = v.truthy("pending_restart")
	reasons, _ := v.Get("pending_restart_reason")
	for _, f := range reasons.Fields {
		m.PendingRestartReason = append(m.PendingRestartReason,
			PendingParameter{f.Name, f.Value.shown("old_value"), f.Value.shown("new_value")})
	}
	m.XlogLocation = v.field("xlog_location").lsn()
	m.ReplayLSN = v.field("replay_lsn").lsn()
	m.ReceiveLSN = v.field("receive_lsn").lsn()
	m.ReplicationState = v.text("replication_state")
	m.Timeline = v.field("timeline").timeline()
	m.ScheduledRestart = decodeScheduledRestart(v.field("scheduled_restart"))
	m.Pause = v.truthy("pause")
	m.Regent = v.text("regent")
	if _, _, ok := m.HostPort(); m.ConnURL != "" && !ok {
		problems = append(problems, fmt.Errorf("read conn_url %q: want postgres://host:port/database with a numeric port", m.ConnURL))
	}
	return m, errors.Join(problems...)
}

// field returns a field's value, null when it is absent.
func (v Value) field(name string) Value {
	f, _ := v.Get(name)
	return f
}

func (v Value) truthy(name string) bool { return v.field(name).Truthy() }

// shown is a field's text form, "" when it is absent or null.
func (v Value) shown(name string) string {
	if f := v.field(name); f.Kind != Null {
		return f.String()
	}
	return ""
}

func decodeScheduledRestart(v Value) *ScheduledRestart {
	if v.Kind != Object || len(v.Fields) == 0 {
		return nil
	}
	timeout, _ := v.field("timeout").integer("s")
	return &ScheduledRestart{
		Schedule:        v.text("schedule"),
		PostgresVersion: v.shown("postgres_version"),
		Role:            readRole(v.text("role")),
		RestartPending:  v.truthy("restart_pending"),
		Timeout:         int(timeout),
		PostmasterStart: v.text("postmaster_start_time"),
	}
}

// readRole understands the word that Patroni used before 4.0.
func readRole(s string) Role {
	if s == "master" {
		return Primary
	}
	return Role(s)
}

// splitConnURL separates postgres://…?application_name=<api_url>.
func splitConnURL(text string) (connURL, apiURL string) {
	connURL, query, _ := strings.Cut(text, "?")
	for pair := range strings.SplitSeq(query, "&") {
		if value, ok := strings.CutPrefix(pair, "application_name="); ok {
			if plain, err := url.QueryUnescape(value); err == nil {
				value = plain
			}
			apiURL = value
		}
	}
	return connURL, apiURL
}

// connURLFromParts makes a URL of the older conn_kwargs.
func connURLFromParts(kwargs Value) string {
	host := kwargs.shown("host")
	if host == "" {
		return ""
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port := kwargs.shown("port"); port != "" {
		host += ":" + port
	}
	return "postgresql://" + host
}

// HostPort returns where the member's PostgreSQL listens; the port is 5432 when the URL has none. ok is
// false when there is no usable URL.
func (m Member) HostPort() (host string, port int, ok bool) {
	_, authority, ok := strings.Cut(m.ConnURL, "://")
	if !ok {
		return "", 0, false
	}
	if end := strings.IndexAny(authority, "/?"); end >= 0 {
		authority = authority[:end]
	}
	authority = authority[strings.LastIndex(authority, "@")+1:]
	host, text := authority, ""
	if i := strings.LastIndex(authority, ":"); i > strings.LastIndex(authority, "]") {
		host, text = authority[:i], authority[i+1:]
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	port = 5432
	if text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return host, 0, false
		}
		port = int(n)
	}
	return host, port, host != ""
}

// Database returns the database of the member's URL, "" when it names none.
func (m Member) Database() string {
	_, rest, _ := strings.Cut(m.ConnURL, "://")
	_, path, _ := strings.Cut(rest, "/")
	name, _, _ := strings.Cut(path, "?")
	return name
}

// AgentVersion returns the numbers of the agent's version; nil when it is absent or cannot be read.
// Compare with slices.Compare: a shorter list is the older one.
func (m Member) AgentVersion() []int {
	var numbers []int
	for part := range strings.SplitSeq(m.Version, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return nil
		}
		numbers = append(numbers, int(n))
	}
	return numbers
}
