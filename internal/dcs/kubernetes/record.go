package kubernetes

import (
	"strconv"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// record is the leader lock as it is written, text by text. Times are never computed with, they only show that
// something changed (dcs.md section 3.5.4). acquired tells one hold from another also when both are of one name: a pod
// that came back takes its own lock over with a new one, and whatever is left of the old process loses it.
type record struct {
	holder, ttl, renewed, acquired, transitions string
}

// recordOf reads the lock from its object; nil is no lock.
func (c *Config) recordOf(o *object) record {
	if o == nil {
		return record{}
	}
	if c.Layout == Lease {
		s := o.Spec.leaseSpec
		return record{s.HolderIdentity, strconv.FormatInt(s.LeaseDurationSeconds, 10), s.RenewTime, s.AcquireTime, strconv.FormatInt(s.LeaseTransitions, 10)}
	}
	a := o.Metadata.Annotations
	return record{a["leader"], a["ttl"], a["renewTime"], a["acquireTime"], a["transitions"]}
}

// lasts is how long the lock lives without a renewal; otherwise counts when the record does not say.
func (r record) lasts(otherwise time.Duration) time.Duration {
	n, err := strconv.ParseInt(strings.TrimSpace(r.ttl), 10, 32)
	if err != nil || n <= 0 {
		return otherwise
	}
	return time.Duration(n) * time.Second
}

// taken is the record after name took the lock over from r.
func (r record) taken(name string, ttl time.Duration, now string) record {
	next := record{name, seconds(ttl), now, now, "0"}
	if r == (record{}) {
		return next
	}
	n, err := strconv.ParseInt(r.transitions, 10, 64)
	if err != nil || n < 0 {
		n = 0
	}
	if r.holder != name && r.acquired != "" {
		n++
	}
	next.transitions = strconv.FormatInt(n, 10)
	return next
}

// prolonged is the record after a renewal.
func (r record) prolonged(ttl time.Duration, now string) record {
	r.ttl, r.renewed = seconds(ttl), now
	if r.transitions == "" {
		r.transitions = "0"
	}
	return r
}

// seconds rounds up: nobody must take the lock for ended before its holder does.
func seconds(ttl time.Duration) string {
	return strconv.FormatInt(int64((ttl+time.Second-1)/time.Second), 10)
}

// stamp is the wall time as this layout writes it.
func (c *Config) stamp(now time.Time) string {
	if c.Layout == Lease {
		return now.UTC().Format("2006-01-02T15:04:05.000000Z07:00")
	}
	return cluster.FormatTime(now.UTC())
}

// lockChange writes the record. subsets are nil unless the leader's address changes.
func (c *Config) lockChange(r record, version string, subsets *[]subset) change {
	ch := change{labels: plain(c.labels()), version: version, subsets: subsets}
	if c.Layout == Lease {
		ttl, _ := strconv.ParseInt(r.ttl, 10, 32)
		transitions, _ := strconv.ParseInt(r.transitions, 10, 32)
		ch.spec = leaseSpec{r.holder, ttl, r.acquired, r.renewed, transitions}
		return ch
	}
	ch.annotations = fields{
		"leader": &r.holder, "ttl": &r.ttl, "renewTime": &r.renewed, "acquireTime": &r.acquired, "transitions": &r.transitions,
	}
	return ch
}

// releaseChange gives the lock up.
func (c *Config) releaseChange(version string) change {
	ch := change{labels: plain(c.labels()), version: version}
	if c.Layout == Lease {
		ch.spec = map[string]any{"holderIdentity": nil}
		return ch
	}
	ch.annotations = fields{"leader": nil}
	if c.Layout == Endpoints {
		ch.subsets = &[]subset{}
	}
	return ch
}
