package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// A cluster moves from one layout to another while it runs (ADR 15). The leader does it alone, and the lock's own objects
// arbitrate: it puts its lock into the new layout, where nobody looks yet, and then seals the old one with one conditional write.
// Before the seal the old lock counts for everybody, after it the new one.

// markCopied is the annotation of any other object of the old layout once its content has been copied. Who writes it after that
// looks first whether the move goes on.
const markCopied = "regent/copied"

// sealedTTL is the lifetime of a sealed lock, in seconds: ten years. Patroni, which knows no seal, sees a leader that stays.
const sealedTTL = "315360000"

// errMoved is definite: nothing was written. The caller finds the lock in another layout.
var errMoved = fmt.Errorf("%w: the cluster has moved", dcs.ErrUnavailable)

var errMoving = fmt.Errorf("%w: the cluster is being moved to another layout", dcs.ErrUnavailable)

func copiedTo(o *object) Layout {
	if o == nil {
		return ""
	}
	return Layout(o.Metadata.Annotations[markCopied])
}

// uncopied returns an error unless the move that copied an object was called off. The lock was marked before the object was,
// so a read of it that begins now tells.
func (s *Store) uncopied(ctx context.Context, to Layout) error {
	lock, err := s.client.get(ctx, s.config, s.config.lockID())
	if err != nil {
		return class(err)
	}
	if lock != nil {
		s.view.apply(s.config.lockID().kind, lock, false)
	}
	switch m := markOf(lock); {
	case m.to() != "":
		return errMoved
	case m.wants() == to:
		return errMoving
	}
	return nil
}

// get reads one object of any layout past all caches; nil: there is none.
func (c *client) get(ctx context.Context, in *Config, i id) (*object, error) {
	o := &object{}
	err := c.read(ctx, in.path(i.kind)+"/"+i.name, nil, o)
	if says(err, http.StatusNotFound) {
		return nil, nil
	}
	return o, err
}

// put writes one object of any layout, if it is still as it was read; nil: if there still is none.
func (c *client) put(ctx context.Context, in *Config, i id, read *object, ch change) (*object, error) {
	after, path := &object{}, in.path(i.kind)
	if read == nil {
		return after, c.write(ctx, http.MethodPost, path, ch.body(in.Namespace, i.name, true), after)
	}
	ch.version = read.Metadata.ResourceVersion
	return after, c.write(ctx, http.MethodPatch, path+"/"+i.name, ch.body(in.Namespace, i.name, false), after)
}

// names are the annotations that a key is made of.
func names(key string) []string {
	switch key {
	case cluster.KeyStatus:
		return []string{"optime", "slots", "retain_slots"}
	case cluster.KeyFailover:
		return []string{"leader", "member", "scheduled_at"}
	case cluster.KeySync:
		return []string{"leader", "quorum", "sync_standby"}
	}
	return []string{key}
}

// pair is an object that lies elsewhere in the other layout, and the annotations that go along.
type pair struct {
	from, to id
	names    []string
}

// pairs are the objects to be copied; those that both layouts share are none.
func pairs(from, to *Config) (all []pair) {
	for _, key := range plainKeys {
		a, _ := from.place(key)
		b, _ := to.place(key)
		if from.resource(a.kind) == to.resource(b.kind) && a.name == b.name {
			continue
		}
		i := slices.IndexFunc(all, func(p pair) bool { return p.from == a })
		if i < 0 {
			i = len(all)
			all = append(all, pair{from: a, to: b})
		}
		all[i].names = append(all[i].names, names(key)...)
	}
	return all
}

// content are the annotations of that name; one that is not there is removed at the other end.
func (p pair) content(o *object) fields {
	all := fields{}
	for _, name := range p.names {
		all[name] = nil
		if o != nil {
			if text, ok := o.Metadata.Annotations[name]; ok {
				all[name] = set(text)
			}
		}
	}
	return all
}

// move takes the cluster, whose lock this process holds in hold session, to another layout. What it did is done again by whoever leads
// next, until the seal is there. After an error the old layout counts, unless the seal is on its way: the next renewal finds out.
func (s *Store) move(ctx context.Context, to Layout, session string) error {
	if !slices.Contains(Layouts, to) || to == s.config.Layout {
		return fmt.Errorf("have layout %q to move to, want another one of %v", to, Layouts)
	}
	if strangers := s.strangers(); len(strangers) > 0 {
		return fmt.Errorf("members %s do not run Regent, and would lead in the old layout; replace them first", strings.Join(strangers, ", "))
	}
	target := *s.config
	target.Layout = to
	for try := 0; ; try++ {
		err := s.moveOnce(ctx, &target, session)
		if err == nil || try == tries || !says(err, http.StatusConflict) {
			return err
		}
	}
}

// strangers are the members that run something else, or have not said what.
func (s *Store) strangers() (all []string) {
	s.view.Lock()
	defer s.view.Unlock()
	for name, pod := range s.view.known[pods] {
		m, err := cluster.DecodeMember(name, []byte(pod.Metadata.Annotations["status"]), 0, "")
		if err != nil || m.Regent == "" {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

func (s *Store) moveOnce(ctx context.Context, target *Config, session string) error {
	lockID := s.config.lockID()
	var shared *pair // what lies in the lock's object: it is copied under the version that is sealed
	for _, p := range pairs(s.config, target) {
		if p.from == lockID {
			shared = &p
		} else if err := s.copyOver(ctx, target, p); err != nil {
			return err
		}
	}
	lock, err := s.client.get(ctx, s.config, lockID)
	if err != nil {
		return fmt.Errorf("read the lock: %w", err)
	}
	have := s.config.recordOf(lock)
	if have.holder != s.config.Name || have.session() != session || markOf(lock).wants() != target.Layout {
		return fmt.Errorf("have lock of %q, marked %q, want our own, marked %q: the move was called off", have.holder, markOf(lock), wanted(target.Layout))
	}
	if shared != nil {
		there, err := s.client.get(ctx, target, shared.to)
		if err != nil {
			return fmt.Errorf("read %s %s: %w", target.resource(shared.to.kind), shared.to.name, err)
		}
		if _, err := s.client.put(ctx, target, shared.to, there, change{labels: plain(s.config.labels()), annotations: merged(shared.content(lock), fields{markCopied: nil})}); err != nil {
			return fmt.Errorf("copy the status to %s %s: %w", target.resource(shared.to.kind), shared.to.name, err)
		}
	}
	if err := s.prepare(ctx, target, have); err != nil {
		return fmt.Errorf("put the lock into layout %s: %w", target.Layout, err)
	}
	return s.seal(ctx, target.Layout, lock, have)
}

// copyOver copies one object and marks it as copied, both on the version that was read.
func (s *Store) copyOver(ctx context.Context, target *Config, p pair) error {
	old, err := s.client.get(ctx, s.config, p.from)
	if err != nil {
		return fmt.Errorf("read %s %s: %w", s.config.resource(p.from.kind), p.from.name, err)
	}
	fresh, err := s.client.get(ctx, target, p.to)
	if err != nil {
		return fmt.Errorf("read %s %s: %w", target.resource(p.to.kind), p.to.name, err)
	}
	want := merged(p.content(old), fields{markCopied: nil})
	if fresh == nil || !want.applied(fresh.Metadata.Annotations) || !plain(s.config.labels()).applied(fresh.Metadata.Labels) {
		if _, err := s.client.put(ctx, target, p.to, fresh, change{labels: plain(s.config.labels()), annotations: want}); err != nil {
			return fmt.Errorf("copy to %s %s: %w", target.resource(p.to.kind), p.to.name, err)
		}
	}
	if copiedTo(old) == target.Layout {
		return nil // nobody has written since
	}
	after, err := s.client.put(ctx, s.config, p.from, old, change{labels: plain(s.config.labels()), annotations: fields{markCopied: set(string(target.Layout))}})
	if err != nil {
		return fmt.Errorf("mark %s %s as copied: %w", s.config.resource(p.from.kind), p.from.name, err)
	}
	s.view.apply(p.from.kind, after, true)
	return nil
}

// prepare writes our lock into the new layout, where nobody looks before the old one is sealed.
func (s *Store) prepare(ctx context.Context, target *Config, have record) error {
	where := target.lockID()
	there, err := s.client.get(ctx, target, where)
	if err != nil {
		return err
	}
	have.acquired, have.renewed = target.stamp(instant(have.acquired)), target.stamp(time.Now())
	var subsets []subset
	if there != nil {
		subsets = there.Subsets
	}
	ch := target.lockChange(have, "", target.subsetsFor(subsets, s.view.get(id{pods, s.config.Name})))
	ch.annotations = merged(ch.annotations, fields{markLayout: set(string(prepared(s.config.Layout)))})
	_, err = s.client.put(ctx, target, where, there, ch)
	return err
}

// seal ends the old layout. From here on the lock is the new one.
func (s *Store) seal(ctx context.Context, to Layout, lock *object, have record) error {
	have.holder, have.ttl = "moved-to-"+string(to), sealedTTL
	ch := s.config.lockChange(have, "", nil)
	ch.annotations = merged(ch.annotations, fields{markLayout: set(string(movedTo(to)))})
	after, err := s.client.put(ctx, s.config, s.config.lockID(), lock, ch)
	if err != nil {
		return fmt.Errorf("seal the old lock: %w", err)
	}
	s.config.Log.Info("the cluster has moved", "from", s.config.Layout, "to", to)
	s.view.apply(s.config.lockID().kind, after, true)
	return nil
}

// Migration is what a person who moves a cluster must know.
type Migration struct {
	Layout    Layout   // in force
	Wanted    Layout   // the leader is asked to move there; empty: it is not
	Leader    string   // holder of the lock, whether or not it still lives
	Strangers []string // members that do not run Regent, or have not said so
	Members   []string
	Steps     []string // what a move to the layout that was asked about copies and writes
}

// Migration says where the cluster is, and what a move would do.
func (m *Moving) Migration(ctx context.Context, to Layout) (Migration, error) {
	s, err := m.current(ctx)
	if err != nil {
		return Migration{}, err
	}
	snapshot, err := s.Snapshot(ctx)
	if err != nil {
		return Migration{}, err
	}
	all, err := m.client.sites(ctx)
	if err != nil {
		return Migration{}, err
	}
	here := all[inForce(all, s.config.Layout)]
	if here == nil {
		return Migration{}, errMoving
	}
	g := Migration{Layout: here.layout, Wanted: here.mark.wants(), Leader: here.record.holder, Strangers: s.strangers()}
	for _, member := range snapshot.Members {
		g.Members = append(g.Members, member.Name)
	}
	from, target := *s.config, *s.config
	from.Layout, target.Layout = here.layout, to
	if here.layout != to {
		describe := func(c *Config, i id) string { return strings.TrimSuffix(c.resource(i.kind), "s") + " " + i.name }
		for _, p := range pairs(&from, &target) {
			g.Steps = append(g.Steps, fmt.Sprintf("copy %s to %s", describe(&from, p.from), describe(&target, p.to)))
		}
		g.Steps = append(g.Steps, fmt.Sprintf("put the leader's lock into %s", describe(&target, target.lockID())),
			fmt.Sprintf("seal %s: from then on the other lock counts, for all members at once", describe(&from, from.lockID())))
	}
	return g, nil
}

// AskToMove asks the leader to move, or with an empty layout no longer to do so.
func (m *Moving) AskToMove(ctx context.Context, to Layout) error {
	for try := 0; ; try++ {
		all, err := m.client.sites(ctx)
		if err != nil {
			return err
		}
		here := all[inForce(all, m.config.Layout)]
		if here == nil {
			return errMoving
		}
		c := m.config
		c.Layout = here.layout
		ask := fields{markLayout: nil}
		switch {
		case here.object == nil:
			return errors.New("there is no cluster yet: choose its layout in the configuration")
		case here.mark.from() != "":
			return fmt.Errorf("%w: the last move has not been finished by the leader's first renewal", dcs.ErrConflict)
		case to == "" && here.mark.wants() == "", to != "" && (here.layout == to || here.mark.wants() == to):
			return nil
		case to != "":
			ask[markLayout] = set(string(wanted(to)))
		}
		_, err = m.client.put(ctx, &c, c.lockID(), here.object, change{labels: plain(c.labels()), annotations: ask})
		if err == nil || try == tries || !says(err, http.StatusConflict) {
			if err != nil {
				err = fmt.Errorf("mark %s %s: %w", c.resource(c.lockID().kind), c.lockID().name, class(err))
			}
			return err
		}
	}
}
