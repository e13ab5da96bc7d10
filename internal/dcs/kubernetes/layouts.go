package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
)

// Layouts are all there are, the oldest first.
var Layouts = []Layout{Endpoints, ConfigMaps, Lease}

// markLayout is the annotation of a lock's object that says whether its layout is the one in force (ADR 15). One that was never
// moved has none.
const markLayout = "regent/layout"

// mark is the text of markLayout.
type mark string

func wanted(to Layout) mark     { return mark("want " + to) } // in force; the leader is asked to move to another one
func prepared(from Layout) mark { return mark("from " + from) }
func movedTo(to Layout) mark    { return mark("to " + to) } // over for good: nobody may acquire or renew here

// names is the layout in a mark that begins with the given word; empty: it is another mark.
func (m mark) names(word string) Layout {
	name, ok := strings.CutPrefix(string(m), word+" ")
	if !ok {
		return ""
	}
	return Layout(name)
}

func (m mark) wants() Layout { return m.names("want") }
func (m mark) from() Layout  { return m.names("from") }
func (m mark) to() Layout    { return m.names("to") }

func markOf(o *object) mark {
	if o == nil {
		return ""
	}
	return mark(o.Metadata.Annotations[markLayout])
}

// site is what one layout's lock object says.
type site struct {
	layout Layout
	object *object // nil: there is none, or we may not read it
	record record
	mark   mark
}

// used: somebody has led here. Blank objects that an operator made do not count.
func (s *site) used() bool { return s.record.acquired != "" || s.mark != "" }

// sites reads the lock objects of all layouts but those that are known already. What we may not read counts as absent.
func (s *client) sites(ctx context.Context, known ...*site) (map[Layout]*site, error) {
	all := map[Layout]*site{}
	for _, k := range known {
		all[k.layout] = k
	}
	for _, layout := range Layouts {
		if all[layout] != nil {
			continue
		}
		c := *s.config
		c.Layout = layout
		where, o := c.lockID(), &object{}
		err := s.read(ctx, c.path(where.kind)+"/"+where.name, nil, o)
		switch {
		case says(err, http.StatusNotFound), says(err, http.StatusForbidden):
			o = nil
		case err != nil:
			return nil, fmt.Errorf("%w: %w", dcs.ErrUnavailable, err)
		}
		all[layout] = &site{layout, o, c.recordOf(o), markOf(o)}
	}
	return all, nil
}

// inForce is the layout that a cluster lives in, and that all members must use whatever they are configured for: the used one that
// has not been moved from. One that is only prepared does not count before the seal on the other. Of several, which people made by hand
// with the cluster stopped, it is the one that was renewed last. configured counts for a cluster that is new. Empty: look again.
func inForce(all map[Layout]*site, configured Layout) Layout {
	var best Layout
	var last time.Time
	for _, layout := range Layouts {
		s := all[layout]
		if !s.used() || s.mark.to() != "" {
			continue
		}
		if from := s.mark.from(); from != "" && all[from] != nil && all[from].mark.to() != layout {
			if all[from].used() {
				continue
			}
			layout = from // the old lock's object was deleted meanwhile
		}
		renewed := instant(s.record.renewed)
		if best == "" || renewed.After(last) || renewed.Equal(last) && layout == configured {
			best, last = layout, renewed
		}
	}
	if best != "" {
		return best
	}
	used := false
	for _, s := range all { // the objects that a seal leads to are gone
		used = used || s.used()
		if to := s.mark.to(); all[to] != nil && all[to].mark.to() == "" {
			return to
		}
	}
	if used {
		return "" // it moved while we read one object after the other
	}
	return configured
}

// instant reads a stamp; zero: it is none.
func instant(stamp string) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, strings.TrimSpace(stamp))
	return t.UTC()
}

// errElsewhere: the cluster lives in another layout.
var errElsewhere = errors.New("the cluster lives in another layout")

// alone looks before and after the first acquisition of a process whether the cluster lives in another layout. On a new cluster,
// members that were configured differently would each find their own lock free, and there would be two leaders; whoever comes
// second at least sees the other, since each writes first and then reads.
func (s *Store) alone(ctx context.Context) error {
	own := s.view.get(s.config.lockID())
	all, err := s.client.sites(ctx, &site{s.config.Layout, own, s.config.recordOf(own), markOf(own)})
	if err != nil {
		return err
	}
	if layout := inForce(all, s.config.Layout); layout != s.config.Layout {
		return fmt.Errorf("%w: %w: it is %q, but this store was opened for %s", dcs.ErrHeld, errElsewhere, layout, s.config.Layout)
	}
	for layout, other := range all {
		if holder := other.record.holder; layout != s.config.Layout && other.mark == "" && holder != "" && holder != s.config.Name {
			return fmt.Errorf("%w: %s holds it in layout %s, but this member is configured for layout %s; give all members one layout",
				dcs.ErrHeld, holder, layout, s.config.Layout)
		}
	}
	return nil
}
