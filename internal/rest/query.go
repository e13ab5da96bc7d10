package rest

import (
	"net/url"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
)

// query holds the parameters of a request (rest-api.md 3.4). The zero value has none.
type query struct{ values url.Values }

// parseQuery reads what it can; a broken pair is as good as absent.
func parseQuery(raw string) query {
	if raw == "" {
		return query{}
	}
	values, _ := url.ParseQuery(raw)
	return query{values}
}

// get returns the first value that is not empty.
func (q query) get(name string) string {
	for _, v := range q.values[name] {
		if v != "" {
			return v
		}
	}
	return ""
}

// lag returns the limit in bytes; ok is false without one, and a text that is no size is none.
func (q query) lag() (bytes int64, ok bool) { return cluster.ParseInt(q.get("lag"), "B") }

// replicationState says whether the member's replication state is the one asked for, if any.
func (q query) replicationState(have string) bool {
	want := q.get("replication_state")
	return want == "" || want == have
}

// tags says whether every tag_… parameter matches.
func (q query) tags(have cluster.Tags) bool {
	for key := range q.values {
		name, ok := strings.CutPrefix(key, "tag_")
		if want := q.get(key); ok && want != "" && !have.Match(name, want) {
			return false
		}
	}
	return true
}
