package main

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
)

// A model of the arithmetic of Patroni's quorum mode, made from the rules and tables of ha.md 2.17g with one leader that stays. It
// shows D-6: a reachable state in which no next step is defined. Ours is total, and explored by the same kind of search (internal/quorum, anyof_test.go).

// standbys is a set of standbys, a bit each.
type standbys uint8

func (s standbys) size() int { return bits.OnesCount8(uint8(s)) }

func (s standbys) first() standbys { return s & -s }

func (s standbys) String() string {
	var b strings.Builder
	for i := range 8 {
		if s&(1<<i) != 0 {
			b.WriteByte(byte('a' + i))
		}
	}
	return b.String()
}

func set(names string) (s standbys) {
	for _, c := range names {
		s |= 1 << (c - 'a')
	}
	return s
}

// quorum is what is published: /sync with its voters and how many others must agree, and ANY n (sync).
type quorum struct {
	q      int
	voters standbys
	n      int
	sync   standbys
}

// errNoStep: the rules lead into a state in which a commit could be missed, so the resolver refuses to go on.
var errNoStep = errors.New("no step is defined")

// sound is the relation that every published state must keep once there are voters.
func (s quorum) sound() bool {
	if s.voters == 0 {
		return true
	}
	nested := s.voters&^s.sync == 0 || s.sync&^s.voters == 0
	return nested && (s.voters|s.sync).size()+1 <= s.q+s.n+1
}

// missed says whether some commit could be lost: one set of n standbys that acknowledged, none of which is in one set of
// members that may elect (a voter and q others of the voters and the leader).
func (s quorum) missed() bool {
	leader := standbys(1 << 7)
	for acks := range standbys(1 << 7) {
		if acks&^s.sync != 0 || acks.size() != s.n {
			continue
		}
		for electors := range 1 << 8 {
			e := standbys(electors)
			if e&^(s.voters|leader) == 0 && e.size() == s.q+1 && e&(acks|leader) == 0 {
				return true
			}
		}
	}
	return false
}

// pass is one run of the resolver.
type pass struct {
	quorum
	active    standbys
	confirmed int
	wanted    int // synchronous_node_count, as far as there are standbys
	steps     []string
	states    []quorum // after each step
	err       error
}

// resolve returns the steps of one pass: "q/voters" written to /sync, "ANY n sync" set on the primary, "restart".
func resolve(s quorum, active standbys, confirmed, wanted int) *pass {
	p := &pass{quorum: s, active: active, confirmed: confirmed, wanted: min(wanted, active.size())}
	for _, phase := range []func() bool{p.repair, p.remove, p.add, p.change} {
		if !phase() || p.err != nil {
			break
		}
	}
	if p.err != nil {
		p.steps, p.states = nil, nil
	}
	return p
}

// publish writes /sync; of two in a row only the last is written.
func (p *pass) publish(q int, voters standbys) { p.step("/sync", q, voters, p.n, p.sync) }

// require sets synchronous_standby_names.
func (p *pass) require(n int, sync standbys) { p.step("ANY", p.q, p.voters, n, sync) }

func (p *pass) step(kind string, q int, voters standbys, n int, sync standbys) {
	next := quorum{q, voters, n, sync}
	if next == p.quorum || p.err != nil {
		return
	}
	p.quorum = next
	if q < 0 || !next.sound() {
		p.err = fmt.Errorf("%s to %+v: %w", kind, next, errNoStep)
		return
	}
	text := fmt.Sprintf("/sync %d/%s", q, voters)
	if kind == "ANY" {
		text = fmt.Sprintf("ANY %d %s", n, sync)
	}
	if last := len(p.steps) - 1; last >= 0 && strings.HasPrefix(p.steps[last], kind) {
		p.steps, p.states = p.steps[:last], p.states[:last]
	}
	p.steps, p.states = append(p.steps, text), append(p.states, next)
}

// late is by how much q is raised while not all that must acknowledge have caught up.
func (p *pass) late() int { return max(p.n-p.confirmed, 0) }

// repair ends what an earlier pass began.
func (p *pass) repair() bool {
	switch {
	case p.voters == 0 && p.sync&p.active != 0:
		if p.confirmed == 0 {
			p.steps = append(p.steps, "restart")
			return false
		}
		p.publish(p.sync.size()-p.n+p.late(), p.sync)
	case p.voters&^p.sync != 0: // /sync was written, the primary was not told
		if gone := p.voters &^ p.sync &^ p.active; gone != 0 {
			p.publish((p.voters&^gone).size()-p.n, p.voters&^gone)
		}
		p.require(p.n, p.sync|p.voters&p.active)
	case p.sync&^p.voters != 0: // the other way round
		if gone := p.sync &^ p.voters &^ p.active; gone != 0 {
			p.require(min(p.n, (p.sync&^gone).size()), p.sync&^gone)
		}
		p.publish(p.sync.size()-p.n+p.late(), p.sync)
	}
	return true
}

// remove takes out who is gone.
func (p *pass) remove() bool {
	if p.sync != 0 && p.sync&p.active == 0 {
		p.publish(0, 0)
		p.require(0, 0)
	}
	for gone := p.sync &^ p.active; gone != 0 && p.err == nil; gone = p.sync &^ p.active {
		one := gone.first()
		if p.q == 0 {
			p.publish(0, p.voters&^one)
			p.require(min(p.n, p.sync.size()-1), p.sync&^one)
			continue
		}
		p.require(min(p.n, p.sync.size()-1), p.sync&^one)
		p.publish(p.q-1, p.voters&^one)
	}
	return true
}

// add takes in who is new.
func (p *pass) add() bool {
	fresh := p.active &^ p.sync
	switch {
	case fresh == 0:
		return true
	case p.sync == 0:
		p.require(p.wanted, p.active)
		p.steps = append(p.steps, "restart")
		return false
	}
	var needed standbys // to have as many as are wanted
	for p.n+needed.size() < p.wanted && fresh != 0 {
		needed |= fresh.first()
		fresh &^= fresh.first()
	}
	if needed != 0 {
		p.require(p.n+needed.size(), p.sync|needed)
		p.publish(p.sync.size()-p.wanted+p.late(), p.sync) // D-6: of what is wanted, not of what is required by now
	}
	if fresh != 0 {
		p.publish((p.voters|fresh).size()-p.n+p.late(), p.voters|fresh)
		p.require(p.n, p.voters)
	}
	return true
}

// change brings n and q to what is wanted.
func (p *pass) change() bool {
	switch {
	case p.n < p.wanted:
		p.require(p.wanted, p.sync)
	case p.n > p.wanted:
		p.publish(p.voters.size()-p.wanted, p.voters)
		p.require(p.wanted, p.sync)
	}
	p.publish(p.voters.size()-p.n+p.late(), p.voters)
	return true
}

// The golden transitions of ha.md 2.17g without a change of the leader.
func TestResolverModelIsPatronis(t *testing.T) {
	for _, c := range []struct {
		name      string
		q         int
		voters    string
		n         int
		sync      string
		confirmed int
		active    string
		wanted    int
		want      string
	}{
		{"first standby connects", 0, "", 0, "", 0, "a", 1, "ANY 1 a; restart"},
		{"it is confirmed", 0, "", 1, "a", 1, "a", 1, "/sync 0/a"},
		{"two connect at once", 0, "", 0, "", 0, "ab", 1, "ANY 1 ab; restart"},
		{"none of them confirmed", 0, "", 1, "ab", 0, "ab", 1, "restart"},
		{"one of them confirmed", 0, "", 1, "ab", 1, "ab", 1, "/sync 1/ab"},
		{"second standby joins, 1 wanted", 0, "a", 1, "a", 1, "ab", 1, "/sync 1/ab; ANY 1 ab"},
		{"second standby joins, 2 wanted", 0, "a", 1, "a", 1, "ab", 2, "ANY 2 ab; /sync 1/ab"},
		{"two more join", 0, "a", 1, "a", 1, "abc", 2, "ANY 2 ab; /sync 2/abc; ANY 2 abc"},
		{"one of three dies", 2, "abc", 1, "abc", 3, "ab", 1, "ANY 1 ab; /sync 1/ab"},
		{"one of two dies, 1 wanted", 1, "ab", 1, "ab", 1, "a", 1, "ANY 1 a; /sync 0/a"},
		{"one of two dies, 2 wanted", 0, "ab", 2, "ab", 1, "a", 2, "/sync 0/a; ANY 1 a"},
		{"all die", 1, "ab", 1, "ab", 0, "", 1, "/sync 0/; ANY 0 "},
		{"1 to 2 wanted", 1, "ab", 1, "ab", 2, "ab", 2, "ANY 2 ab; /sync 0/ab"},
		{"2 to 1 wanted", 0, "ab", 2, "ab", 2, "ab", 1, "/sync 1/ab; ANY 1 ab"},
		{"swap", 1, "ab", 1, "ab", 2, "ac", 1, "ANY 1 a; /sync 1/ac; ANY 1 ac"},
		{"crash after the primary was told", 0, "a", 1, "ab", 1, "ab", 1, "/sync 1/ab"},
		{"crash after /sync was written", 1, "ab", 1, "a", 1, "ab", 1, "ANY 1 ab"},
	} {
		p := resolve(quorum{c.q, set(c.voters), c.n, set(c.sync)}, set(c.active), c.confirmed, c.wanted)
		if have := strings.Join(p.steps, "; "); have != c.want || p.err != nil {
			t.Errorf("%s: have %s, %v, want %s", c.name, have, p.err, c.want)
		}
	}
}

// explore returns every state that passes can lead to, also when each may be cut short after any of its steps, and the inputs for
// which a pass has no step.
func explore(count int, wanted ...int) (states []quorum, stuck map[quorum][]string) {
	stuck = map[quorum][]string{}
	known := map[quorum]bool{{}: true}
	states = []quorum{{}}
	for i := 0; i < len(states); i++ {
		s := states[i]
		for active := range standbys(1 << count) {
			for confirmed := range (s.sync & active).size() + 1 {
				for _, k := range wanted {
					p := resolve(s, active, confirmed, k)
					if p.err != nil {
						stuck[s] = append(stuck[s], fmt.Sprintf("active %s, %d confirmed, %d wanted", active, confirmed, k))
					}
					for _, next := range p.states {
						if !known[next] {
							known[next] = true
							states = append(states, next)
						}
					}
				}
			}
		}
	}
	return states, stuck
}

// D-6 (a): three are wanted from now on and a third standby joins before the next pass. The steady state of two is no exotic one.
func TestD6PatronisResolverHasNoStep(t *testing.T) {
	states, stuck := explore(4, 1, 2, 3, 4)
	for _, c := range []struct {
		state  quorum
		inputs string
	}{
		{quorum{1, set("ab"), 1, set("ab")}, "active abc, 2 confirmed, 3 wanted"},
		{quorum{2, set("abc"), 1, set("abc")}, "active abcd, 3 confirmed, 3 wanted"},
		{quorum{2, set("abc"), 1, set("abc")}, "active abcd, 3 confirmed, 4 wanted"},
	} {
		if !slices.Contains(states, c.state) || !slices.Contains(stuck[c.state], c.inputs) {
			t.Errorf("%+v with %s: have %q, want it reachable and without a step", c.state, c.inputs, stuck[c.state])
		}
		p := resolve(c.state, set("abcd"), 0, 1)
		if p.err != nil {
			t.Errorf("%+v with one wanted: %v, want it to depend on what is wanted", c.state, p.err)
		}
	}
	for _, s := range states {
		if s.voters != 0 && s.missed() {
			t.Errorf("%+v: a commit can be missed; want Patroni's resolver safe, though not live", s)
		}
	}
}

func TestMissedSeesUnsoundStates(t *testing.T) {
	for _, c := range []struct {
		state quorum
		want  bool
	}{
		{quorum{1, set("ab"), 1, set("ab")}, false},
		{quorum{0, set("ab"), 2, set("ab")}, false},
		{quorum{0, set("ab"), 1, set("ab")}, true}, // a acknowledged, b elects itself
		{quorum{1, set("abc"), 1, set("abc")}, true},
		{quorum{0, set("a"), 1, set("b")}, true},
	} {
		if have := c.state.missed(); have != c.want || c.state.sound() == have {
			t.Errorf("%+v: have missed %v, sound %v; want %v and the opposite", c.state, have, c.state.sound(), c.want)
		}
	}
}
