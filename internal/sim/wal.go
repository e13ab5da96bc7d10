package sim

import (
	"slices"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// record is a piece of WAL. Its id is unique in a run, so two directories have the same WAL up to a place when they
// have the same record there: the numbers of timelines cannot tell that.
type record struct {
	id         int
	tli        cluster.Timeline
	kind       recordKind
	start, end cluster.LSN
	at         moment // when it came into this directory
}

type recordKind uint8

const (
	rowRecord      recordKind = iota // one committed row of a client
	checkpoint                       // an online checkpoint
	shutdownRecord                   // a shutdown checkpoint
	recoveryEnd                      // the first record of a timeline
)

// ended is a timeline that was left.
type ended struct {
	tli   cluster.Timeline
	at    cluster.LSN // where the next one began
	index int         // number of records before that
}

const (
	firstLSN    cluster.LSN = 0x1000028
	systemBlock cluster.LSN = 0x78 // size of a record of the system
)

// directory is a data directory: what survives the server and, up to flushed, the host.
type directory struct {
	state   cluster.DirState
	problem string // half-made or half-rewound
	system  string // system identifier
	major   int

	wal     []record
	flushed int // records that survive the host
	tli     cluster.Timeline
	history []ended // of tli

	// The newest timeline whose history file is here. A standby fetches it from whoever it connects to, also when it
	// cannot follow.
	known        cluster.Timeline
	knownHistory []ended
	aside        cluster.Timeline // the newest whose file was moved aside

	control       cluster.Control
	standbySignal bool
	slots         []slot
	syncNames     string                // synchronous_standby_names in the configuration file
	document      cluster.DynamicConfig // the cached dynamic configuration
}

// slot is a physical replication slot.
type slot struct {
	name    string
	restart cluster.LSN
	user    *stream // who uses it
}

func (d *directory) present() bool { return d.state == cluster.DirPresent }

// end is where the WAL ends.
func (d *directory) end() cluster.LSN { return endOf(d.wal) }

func endOf(wal []record) cluster.LSN {
	if len(wal) == 0 {
		return firstLSN
	}
	return wal[len(wal)-1].end
}

// append adds a record at the end.
func (d *directory) append(r record) {
	r.start = d.end()
	r.end += r.start
	r.tli = d.tli
	d.wal = append(d.wal, r)
}

// flushDelay is how long a standby takes to make durable what it has written.
const flushDelay = int64(10 * time.Millisecond)

// harden brings up to date what of a standby's WAL is durable.
func (d *directory) harden(now moment) {
	for d.flushed < len(d.wal) && d.wal[d.flushed].at+flushDelay <= now {
		d.flushed++
	}
}

// begin starts a new timeline at the end of the WAL and makes its history file.
func (d *directory) begin(tli cluster.Timeline) {
	d.history = append(slices.Clip(d.history), ended{d.tli, d.end(), len(d.wal)})
	d.tli = tli
	d.known, d.knownHistory = tli, d.history
}

// cut drops the records from n on.
func (d *directory) cut(n int) {
	if n >= len(d.wal) || n == 0 {
		return
	}
	d.wal = slices.Clip(d.wal[:n])
	d.flushed = min(d.flushed, n)
	d.tli = d.wal[n-1].tli
	d.history = d.history[:historyBefore(d.history, d.tli)]
}

// extend takes over the records that source has beyond ours, up to n of them in all, as a WAL receiver does.
func (d *directory) extend(source *directory, n int, at moment) {
	have := len(d.wal)
	d.wal = append(d.wal, source.wal[have:n]...)
	for i := have; i < n; i++ {
		d.wal[i].at = at
	}
	if tli := d.wal[n-1].tli; tli != d.tli {
		d.tli = tli
		d.history = slices.Clip(source.history[:historyBefore(source.history, tli)])
		if tli > d.known {
			d.known, d.knownHistory = tli, d.history
		}
	}
}

func historyBefore(h []ended, tli cluster.Timeline) int {
	n := 0
	for n < len(h) && h[n].tli < tli {
		n++
	}
	return n
}

// copyOf is a copy of the first n records and all that belongs to them.
func (d *directory) copyOf(n int, at moment) directory {
	c := directory{state: cluster.DirPresent, system: d.system, major: d.major, tli: d.tli, history: slices.Clip(d.history), known: d.known, knownHistory: d.knownHistory, control: d.control, document: d.document, syncNames: d.syncNames}
	c.wal = slices.Clone(d.wal[:n])
	for i := range c.wal {
		c.wal[i].at = at
	}
	c.flushed = n
	if n > 0 && c.wal[n-1].tli != c.tli {
		c.tli = c.wal[n-1].tli
		c.history = c.history[:historyBefore(c.history, c.tli)]
	}
	return c
}

// contains says whether that record, at its place, is in the WAL.
func (d *directory) contains(index int, r *record) bool {
	return index < len(d.wal) && d.wal[index].id == r.id
}

// continues says whether our WAL is the begin of other's.
func (d *directory) continues(other *directory) bool {
	n := len(d.wal)
	return n == 0 || other.contains(n-1, &d.wal[n-1])
}

// common is how many records both begin with.
func common(a, b *directory) int {
	low, high := 0, min(len(a.wal), len(b.wal))
	for low < high { // the same record means the same WAL before it
		middle := (low + high + 1) / 2
		if a.wal[middle-1].id == b.wal[middle-1].id {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low
}

// leftAt is where a history left a timeline; ok is false when it does not have it.
func leftAt(h []ended, tli cluster.Timeline) (at cluster.LSN, ok bool) {
	for _, e := range h {
		if e.tli == tli {
			return e.at, true
		}
	}
	return 0, false
}

func (d *directory) slot(name string) *slot {
	for i := range d.slots {
		if d.slots[i].name == name {
			return &d.slots[i]
		}
	}
	return nil
}

// timelineAt is the timeline of the record that ends there.
func (d *directory) timelineAt(at cluster.LSN) cluster.Timeline {
	for _, e := range d.history {
		if at <= e.at {
			return e.tli
		}
	}
	return d.tli
}
