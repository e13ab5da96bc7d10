package sim

import "time"

// leaveStray lets a busy backend outlive its postmaster: it commits until it is done or killed. Nothing sends its WAL.
func (m *Member) leaveStray(life time.Duration) {
	w := m.w
	p := &process{}
	m.stray = p
	d := &m.dir
	var commit func()
	commit = func() {
		w.records++
		d.append(record{id: w.records, kind: rowRecord, end: 500, at: w.now})
		d.flushed = len(d.wal)
		if d.syncNames == "" { // else it waits for WAL senders that are gone, and sees that
			w.acknowledged(m, len(d.wal)-1)
		}
		w.after(w.rand.about(time.Second), p, commit)
	}
	w.after(w.rand.about(300*time.Millisecond), p, commit)
	w.after(life, p, m.killStray)
}

// killStray ends what is left of a server.
func (m *Member) killStray() {
	if m.stray == nil {
		return
	}
	m.stray.kill()
	m.stray = nil
	m.writable()
}
