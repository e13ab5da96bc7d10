package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/cluster"
)

// scene is one thing that happens to the cluster, and heals.
type scene struct {
	key      string // a, b, c, d
	title    string
	short    string // for the summary
	mayLose  bool   // asynchronous replication: acknowledged rows may be missing afterwards
	describe func(p *play, leader, replica *member) string
	// act does it and returns what the cluster must look like then.
	act   func(ctx context.Context, p *play, leader, replica *member, now cluster.Timeline) (goal, error)
	limit time.Duration // for healing, after act
}

// restartAfter is how long a killed member stays away: about what a pod needs to come back.
const restartAfter = 2 * time.Second

// healLimit bounds every wait, also on a machine that is slow.
const healLimit = 3 * time.Minute

var scenes = []scene{
	{
		key: "a", title: "The leader is killed, and comes back before its lock expires",
		short: "leader back before its lock expired",
		describe: func(p *play, leader, replica *member) string {
			return fmt.Sprintf("%s loses its agent and its PostgreSQL (SIGKILL), and is started again after\n%s. Its lock lives for %s: it must hold it again, and be the primary on a new\ntimeline.", leader.name, duration(restartAfter), duration(p.cluster.ttl))
		},
		act: func(ctx context.Context, p *play, leader, replica *member, now cluster.Timeline) (goal, error) {
			return goal{leader: leader.name, timeline: now + 1}, p.killAndStart(ctx, leader)
		},
		limit: healLimit,
	},
	{
		key: "b", title: "The leader is killed, and stays away until its lock has expired", mayLose: true,
		short: "leader back afterwards",
		describe: func(p *play, leader, replica *member) string {
			return fmt.Sprintf("%s is killed and stays away. After at most %s its lock expires, and\n%s must be elected, on the next timeline. Then %s comes back: as a\nreplica, rewound if it has data that nobody else has.", leader.name, duration(p.cluster.ttl), replica.name, leader.name)
		},
		act: func(ctx context.Context, p *play, leader, replica *member, now cluster.Timeline) (goal, error) {
			g := goal{leader: replica.name, timeline: now + 1}
			if err := p.kill(leader); err != nil {
				return g, err
			}
			elected := g
			elected.alone = true
			if _, err := p.cluster.wait(ctx, elected, p.cluster.ttl+healLimit, p.tell); err != nil {
				return g, err
			}
			if err := p.cluster.start(leader); err != nil {
				return g, err
			}
			p.step("%s: started again", leader.name)
			return g, nil
		},
		limit: healLimit,
	},
	{
		key: "c", title: "The replica is killed, and comes back",
		short: "replica killed",
		describe: func(p *play, leader, replica *member) string {
			return fmt.Sprintf("%s loses its agent and its PostgreSQL. Nobody who writes may notice.", replica.name)
		},
		act: func(ctx context.Context, p *play, leader, replica *member, now cluster.Timeline) (goal, error) {
			return goal{leader: leader.name, timeline: now}, p.killAndStart(ctx, replica)
		},
		limit: healLimit,
	},
	{
		key: "d", title: "A switchover: the leader hands over, as planned",
		short: "switchover",
		describe: func(p *play, leader, replica *member) string {
			return fmt.Sprintf("As with `regent switchover`: %s stops, %s takes over, nothing is lost.", leader.name, replica.name)
		},
		act: func(ctx context.Context, p *play, leader, replica *member, now cluster.Timeline) (goal, error) {
			ctx, cancel := context.WithTimeout(ctx, healLimit)
			defer cancel()
			said, err := leader.client.Switchover(ctx, client.SwitchoverRequest{Leader: leader.name, Candidate: replica.name})
			g := goal{leader: replica.name, timeline: now + 1}
			if err != nil {
				return g, p.cluster.explain(g, []string{"the switchover was refused or not finished"}, time.Since(p.began), err)
			}
			p.step("%s says: %s", leader.name, strings.TrimSpace(said))
			return g, nil
		},
		limit: healLimit,
	},
}

// outcome is what one scene did to those who write.
type outcome struct {
	scene   string
	outage  time.Duration
	healed  time.Duration // from the event until both members are as they should be
	missing int           // acknowledged rows that are not there any more
	acked   int           // acknowledged so far
	rewound bool
}

// play is a run of scenes with a writer at work.
type play struct {
	*screen
	cluster *demoCluster
	writer  *writer
	brief   bool // one line for each scene
	silent  []string
	doing   map[string]string // what members do now, as last told
	jobs    map[string]bool   // what members were seen doing in this scene
}

// step tells what happens now; a brief play keeps it for the case of a failure.
func (p *play) step(format string, args ...any) {
	if p.brief {
		p.silent = append(p.silent, fmt.Sprintf("%6.1f s  ", time.Since(p.began).Seconds())+fmt.Sprintf(format, args...))
		return
	}
	p.screen.step(format, args...)
}

// tell is called with what a member does; only news are printed.
func (p *play) tell(name, doing string) {
	if p.doing[name] == doing {
		return
	}
	p.doing[name], p.jobs[doing] = doing, true
	p.step("%s: %s", name, strings.TrimSuffix(doing, ":"))
}

// bringUp starts the members, one after the other, since the second copies the first.
func (p *play) bringUp(ctx context.Context) error {
	p.doing, p.jobs = map[string]string{}, map[string]bool{}
	for _, m := range p.cluster.members {
		if err := p.cluster.start(m); err != nil {
			return err
		}
		p.step("%s: agent started (process %d)", m.name, m.running().pid)
		g := goal{alone: m == p.cluster.members[0]}
		if _, err := p.cluster.wait(ctx, g, healLimit, p.tell); err != nil {
			return err
		}
	}
	return nil
}

func (p *play) kill(m *member) error {
	k, err := p.cluster.kill(m)
	p.doing[m.name] = ""
	if err != nil {
		return err
	}
	p.step("%s: killed, agent (process %d) and PostgreSQL (%d and %d more)", m.name, k.agent, k.postmaster, k.others)
	return nil
}

func (p *play) killAndStart(ctx context.Context, m *member) error {
	if err := p.kill(m); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(restartAfter): // the pod is being made again
	}
	if err := p.cluster.start(m); err != nil {
		return err
	}
	p.step("%s: started again", m.name)
	return nil
}

// perform plays one scene from a healthy cluster to a healthy cluster.
func (p *play) perform(ctx context.Context, s scene) (o outcome, err error) {
	v, err := p.cluster.wait(ctx, goal{}, healLimit, func(string, string) {})
	if err != nil {
		return o, fmt.Errorf("play scene %s: %w", s.key, err)
	}
	leader := p.cluster.member(v.leader())
	replica := p.cluster.other(leader)
	now := cluster.Timeline(v.status[leader.name].Timeline)
	if !p.brief {
		p.headline("%s) %s", s.key, s.title)
		p.say("%s", s.describe(p, leader, replica))
	}
	p.jobs, p.silent, p.began = map[string]bool{}, nil, time.Now()
	begin := p.began
	o.scene = s.key
	g, err := s.act(ctx, p, leader, replica, now)
	if err != nil {
		return o, err
	}
	if _, err := p.cluster.wait(ctx, g, s.limit, p.tell); err != nil {
		return o, err
	}
	o.healed = time.Since(begin)
	if err := p.writer.writes(ctx, 1, healLimit); err != nil {
		return o, err
	}
	o.outage = p.writer.outage(begin, time.Now())
	if o.missing, o.acked, err = p.writer.missing(ctx); err != nil {
		return o, err
	}
	o.rewound = p.jobbed("rewinds")
	return o, nil
}

func (p *play) jobbed(begin string) bool {
	for doing := range p.jobs {
		if strings.HasPrefix(doing, begin) {
			return true
		}
	}
	return false
}

// report prints the end of a scene for people.
func (p *play) report(ctx context.Context, s scene, o outcome) error {
	p.step("%s", p.paint(green, "healed"))
	if err := p.cluster.showTable(ctx, p.screen); err != nil {
		return err
	}
	p.say("Writes were out for %s. Acknowledged rows missing: %s of %s.", p.paint(bold, duration(o.outage)), p.lost(s, o.missing), number(o.acked))
	if s.mayLose {
		p.say("Replication is asynchronous here: what the old leader had acknowledged but not yet\nsent is missing. With synchronous_mode nothing would be.")
		if o.rewound {
			p.say("The old leader had gone further than the new one, and was rewound.")
		} else {
			p.say("The old leader had nothing that the new one lacked: it did not have to be rewound.")
		}
	}
	return nil
}

func (p *play) lost(s scene, n int) string {
	if n > 0 && !s.mayLose {
		return p.paint(red, number(n))
	}
	return number(n)
}

// line is the report of a brief play.
func (p *play) line(round int, o outcome) {
	p.say("round %3d  %s  outage %8s  healed after %8s  rows missing %d of %s", round, o.scene, duration(o.outage), duration(o.healed), o.missing, number(o.acked))
}

// tally is what one scene did in all rounds.
type tally struct {
	scene   scene
	outages []time.Duration
	missing int
	rewound int
}

func (t *tally) add(o outcome) {
	t.outages = append(t.outages, o.outage)
	t.missing += o.missing
	if o.rewound {
		t.rewound++
	}
}

// median is the lower of the two in the middle of an even number.
func (t *tally) median() time.Duration {
	sorted := slices.Sorted(slices.Values(t.outages))
	return sorted[(len(sorted)-1)/2]
}

// broken says whether rows are missing that must not be.
func (t *tally) broken() bool { return t.missing > 0 && !t.scene.mayLose }

func (p *play) summary(tallies []*tally) {
	p.headline("Summary")
	p.say("%-38s %6s %9s %9s %9s %8s", "", "rounds", "min", "median", "max", "missing")
	for _, t := range tallies {
		if len(t.outages) == 0 {
			continue
		}
		missing := fmt.Sprintf("%8s", number(t.missing))
		if t.broken() {
			missing = p.paint(red, missing)
		}
		p.say("%s) %-35s %6d %9s %9s %9s %s", t.scene.key, t.scene.short, len(t.outages),
			duration(slices.Min(t.outages)), duration(t.median()), duration(slices.Max(t.outages)), missing)
	}
	p.say("min, median, max: how long nobody could write. missing: acknowledged rows that are\ngone, which only b may have: replication is asynchronous.")
}
