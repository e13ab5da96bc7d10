// Command sim plays schedules of faults against the real decisions in virtual time and looks for broken invariants.
//
//	go run ./test/sim --seeds 1000            one thousand schedules on all cores
//	go run ./test/sim --seed 17 --trace       one of them, with what happened
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/regent-ha/regent/internal/sim"
)

type options struct {
	seeds, from, workers, members int
	seed                          int64
	stop, json, noGuard, trace    bool
	shrink                        bool
	sync, quorum, failsafe, sites bool
	standby                       bool
	ignore, schedule              string
	faults                        *[]sim.Fault // of the schedule
}

// run is what a seed is played with.
func (o *options) run(seed uint64) sim.Options {
	return sim.Options{Seed: seed, Members: o.members, Sync: o.sync, Quorum: o.quorum, Failsafe: o.failsafe, Standby: o.standby, Sites: o.sites, NoGuard: o.noGuard, Ignore: strings.FieldsFunc(o.ignore, func(r rune) bool { return r == ',' }), Schedule: o.faults}
}

func main() {
	var o options
	flag.IntVar(&o.seeds, "seeds", 1000, "how many schedules to play")
	flag.IntVar(&o.from, "from", 0, "the first seed")
	flag.IntVar(&o.workers, "workers", runtime.NumCPU(), "how many at once")
	flag.IntVar(&o.members, "members", 0, "members of each cluster, 1 to 7; 0: by the seed")
	flag.Int64Var(&o.seed, "seed", -1, "play this seed alone")
	flag.BoolVar(&o.stop, "stop", false, "stop at the first violation")
	flag.BoolVar(&o.json, "json", false, "one JSON object per violation, and one with the sum")
	flag.BoolVar(&o.noGuard, "no-guard", false, "without the process that kills PostgreSQL at the lock's end")
	flag.BoolVar(&o.sync, "sync", false, "all of them with synchronous_mode on, not only an eighth")
	flag.BoolVar(&o.quorum, "quorum", false, "all of them with synchronous_mode quorum, not only an eighth")
	flag.BoolVar(&o.failsafe, "failsafe", false, "all of them in failsafe mode")
	flag.BoolVar(&o.sites, "sites", false, "all of them with members of several sites, one of which may be lost (durability.survive)")
	flag.BoolVar(&o.standby, "standby", false, "all of them standby clusters, which follow a primary of another cluster")
	flag.BoolVar(&o.trace, "trace", false, "with --seed: write what happens")
	flag.BoolVar(&o.shrink, "shrink", false, "with --seed: look for the shortest schedule that shows the same")
	flag.StringVar(&o.schedule, "schedule", "", "play these faults, a JSON list as --shrink prints it, instead of the seed's")
	flag.StringVar(&o.ignore, "ignore", "", "oracles that say nothing, separated by commas: what comes after them is seen then")
	flag.Parse()
	if flag.NArg() > 0 || o.members < 0 || o.members > 7 || o.workers < 1 {
		flag.Usage()
		os.Exit(2)
	}
	debug.SetGCPercent(1600) // a run keeps little and makes much garbage
	if o.schedule != "" {
		o.faults = &[]sim.Fault{}
		if err := json.Unmarshal([]byte(o.schedule), o.faults); err != nil {
			fmt.Fprintf(os.Stderr, "read --schedule: %v; want a JSON list of faults, as --shrink prints it\n", err)
			os.Exit(2)
		}
	}
	if o.seed >= 0 {
		os.Exit(one(o))
	}
	os.Exit(many(o))
}

// one plays a single seed.
func one(o options) int {
	run := o.run(uint64(o.seed))
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	if o.shrink {
		r := sim.Run(run)
		var small sim.Options
		small, r = sim.Shrink(run, r, 400)
		if r.Violation == nil {
			fmt.Fprintln(out, "no violation: nothing to shrink")
			return 0
		}
		text, _ := json.Marshal(*small.Schedule)
		fmt.Fprintf(out, "%s\n    go run ./test/sim --seed %d --members %d --trace --schedule '%s'\n", r.Violation, o.seed, small.Members, text)
		return 1
	}
	if o.trace {
		run.Trace = out
	}
	r := sim.Run(run)
	fmt.Fprintf(out, "seed %d: %d members, %s simulated, %d decisions, %d events, %d rows, %d promotions, %d lost with them, %d kills by the guard\n",
		r.Seed, r.Members, r.Simulated.Round(time.Second), r.Decisions, r.Events, r.Rows, r.Failovers, r.Lost, r.GuardKills)
	for _, f := range r.Schedule {
		fmt.Fprintln(out, "  ", f)
	}
	if r.Violation != nil {
		fmt.Fprintln(out, r.Violation)
		return 1
	}
	return 0
}

// sum is what many runs came to.
type sum struct {
	Schedules      int            `json:"schedules"`
	SimulatedHours float64        `json:"simulated_hours"`
	Decisions      uint64         `json:"decisions"`
	Events         uint64         `json:"events"`
	Rows           int            `json:"rows"`
	Lost           int            `json:"lost_in_failovers"`
	Promotions     int            `json:"promotions"`
	GuardKills     int            `json:"guard_kills"`
	Failsafes      int            `json:"failsafe_rounds"`
	Seconds        float64        `json:"seconds"`
	PerCore        float64        `json:"decisions_per_second_and_core"`
	ByOracle       map[string]int `json:"by_oracle"`
	Violations     []found        `json:"violations"`
}

type found struct {
	Oracle string `json:"oracle"`
	Seed   uint64 `json:"seed"`
	Detail string `json:"detail"`
	Repeat string `json:"repeat"`
}

// many plays seeds side by side; each run has a goroutine of its own, and no two share anything.
func many(o options) int {
	begun := time.Now()
	total := sum{ByOracle: map[string]int{}, Violations: []found{}}
	var mu sync.Mutex
	var next atomic.Int64
	var halt atomic.Bool
	var done sync.WaitGroup
	for range o.workers {
		done.Go(func() {
			for !halt.Load() {
				i := int(next.Add(1)) - 1
				if i >= o.seeds {
					return
				}
				r := sim.Run(o.run(uint64(o.from + i)))
				mu.Lock()
				total.add(&r)
				if r.Violation != nil {
					total.Violations = append(total.Violations, found{r.Violation.Oracle, r.Seed, r.Violation.Detail, repeat(o, &r)})
					tell(o, &r)
					if o.stop {
						halt.Store(true)
					}
				}
				mu.Unlock()
			}
		})
	}
	done.Wait()
	total.Seconds = time.Since(begun).Seconds()
	total.PerCore = float64(total.Decisions) / cpuTime().Seconds()
	total.print(o)
	if len(total.Violations) > 0 {
		return 1
	}
	return 0
}

// cpuTime is what this process has used of all cores: on a busy machine the clock on the wall tells nothing.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return time.Hour
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (t *sum) add(r *sim.Result) {
	t.Schedules++
	t.SimulatedHours += r.Simulated.Hours()
	t.Decisions += r.Decisions
	t.Events += r.Events
	t.Rows += r.Rows
	t.Lost += r.Lost
	t.Promotions += r.Failovers
	t.GuardKills += r.GuardKills
	t.Failsafes += r.Failsafes
	if r.Violation != nil {
		t.ByOracle[r.Violation.Oracle]++
	}
}

// repeat is the command that shows the same once more.
func repeat(o options, r *sim.Result) string {
	command := fmt.Sprintf("go run ./test/sim --seed %d --trace", r.Seed)
	if o.members > 0 {
		command += fmt.Sprintf(" --members %d", o.members)
	}
	if o.sync {
		command += " --sync"
	}
	if o.quorum {
		command += " --quorum"
	}
	if o.failsafe {
		command += " --failsafe"
	}
	if o.standby {
		command += " --standby"
	}
	if o.noGuard {
		command += " --no-guard"
	}
	if o.schedule != "" {
		command += " --schedule '" + o.schedule + "'"
	}
	if o.ignore != "" {
		command += " --ignore " + o.ignore
	}
	return command
}

// tell prints a violation.
func tell(o options, r *sim.Result) {
	if !o.json {
		fmt.Printf("seed %d: %s\n    %s\n", r.Seed, r.Violation, repeat(o, r))
	}
}

func (t *sum) print(o options) {
	if o.json {
		text, _ := json.Marshal(t)
		fmt.Println(string(text))
		return
	}
	fmt.Printf("%d schedules, %.1f simulated hours, %d decisions (%.0f a second and core), %d events, %d rows, %d promotions, %d rows lost with them, %d kills by the guard, %d times a leader was let go on without the store, %.1f s\n",
		t.Schedules, t.SimulatedHours, t.Decisions, t.PerCore, t.Events, t.Rows, t.Promotions, t.Lost, t.GuardKills, t.Failsafes, t.Seconds)
	var names []string
	for name := range t.ByOracle {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Printf("  %s: %d\n", name, t.ByOracle[name])
	}
	if len(names) == 0 {
		fmt.Println("no violation")
	}
}
