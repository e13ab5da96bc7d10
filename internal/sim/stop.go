package sim

import (
	"fmt"
	"time"
)

type stopMode uint8

const (
	fast stopMode = iota
	immediate
)

// stopOptions say how to stop. Times count from the call.
type stopOptions struct {
	mode                      stopMode
	immediateAfter, killAfter time.Duration // 0: never
}

// shutdown is one stop that an agent waits for and drives.
type shutdown struct {
	over bool
}

// stopThen stops PostgreSQL and goes on with the job.
func (j *job) stopThen(o stopOptions, next func()) {
	j.a.stopServerIn(j, o, func(err error) {
		if err != nil {
			j.end(err)
			return
		}
		next()
	})
}

func (a *agent) stopServerIn(j *job, o stopOptions, done func(error)) {
	j.stop = a.stopServer(o, func(err error) {
		if !j.over {
			done(err)
		}
	})
}

// stopServer stops PostgreSQL, harder and harder; done is called when it is gone.
func (a *agent) stopServer(o stopOptions, done func(error)) *shutdown {
	w, m := a.w, a.m
	p := &shutdown{}
	s := m.server
	m.killStray()
	if s == nil {
		if m.busy != nil && m.busy.single {
			w.after(0, &a.process, func() { done(fmt.Errorf("a single-user process is repairing the data directory")) })
			return p
		}
		w.after(w.rand.between(0, 5*time.Millisecond), &a.process, func() { done(nil) })
		return p
	}
	s.onExit = append(s.onExit, func() {
		w.after(w.rand.between(0, 5*time.Millisecond), &a.process, func() {
			if !p.over {
				p.over = true
				done(nil)
			}
		})
	})
	still := func() bool { return !p.over && m.server == s }
	quit := func() { // SIGQUIT: a frozen server gets it when it goes on
		w.after(w.rand.between(time.Millisecond, 50*time.Millisecond), &s.process, s.crash)
	}
	// A server that hangs does not run the CHECKPOINT or take the signal; the limits count all the same.
	if o.mode == immediate {
		quit()
	} else {
		w.after(w.rand.between(time.Millisecond, 60*time.Millisecond), &s.process, s.stop)
	}
	if o.immediateAfter > 0 {
		a.after(o.immediateAfter, func() {
			if still() {
				quit()
			}
		})
	}
	if o.killAfter > 0 {
		a.after(o.killAfter, func() {
			if still() {
				s.crash()
			}
		})
	}
	return p
}
