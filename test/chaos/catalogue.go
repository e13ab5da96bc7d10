package main

import (
	"time"
)

// fault is something that can be played.
type fault struct {
	name   string
	aims   []aim // one of them is chosen; a fault that is worse for a leader names it more often
	weight int   // cards in the deck; 0: one
	short  span  // how long it lasts, or
	long   span  // longer than the lock lives; zero: never so long

	excuses    bool // its target may lose what nobody else has
	alone      bool // in a round of its own
	stopsAgent bool // the agent cannot stop its PostgreSQL while this lasts
	begin      func(p *play, x *round, s *strike) (lift func() error, err error)
}

// span is a range of durations.
type span struct{ from, to time.Duration }

var (
	moment  = span{0, time.Second}
	brief   = span{3 * time.Second, 9 * time.Second}
	lasting = span{24 * time.Second, 35 * time.Second} // longer than the ttl
)

// pauseHost freezes a whole host, as a hypervisor does. Frozen for longer than the ttl, nothing on the host can stop PostgreSQL before it
// has woken too, the guard included.
const pauseHost = "pause host"

var (
	anybody = []aim{leader, leader, replica}
	storeOf = []aim{store}
)

// catalogue is all faults.
var catalogue = []fault{
	// The network.
	{name: "isolate", aims: anybody, short: brief, long: lasting, excuses: true, begin: isolate},
	{name: "cut from store", aims: anybody, short: brief, long: lasting, excuses: true, begin: cutStore},
	{name: "cut from members", aims: anybody, short: brief, long: lasting, excuses: true, begin: cutMembers},
	{name: "deaf", aims: anybody, short: brief, long: lasting, excuses: true, begin: deaf},
	{name: "mute", aims: anybody, short: brief, long: lasting, excuses: true, begin: mute},
	{name: "lossy", aims: anybody, short: brief, long: lasting, excuses: true, begin: lossy},
	{name: "slow", aims: anybody, short: brief, long: lasting, excuses: true, begin: slow},
	// The store.
	{name: "store server cut", aims: storeOf, short: brief, long: lasting, begin: storeCut(1)},
	{name: "store server killed", aims: storeOf, short: brief, long: lasting, begin: storeKilled(1)},
	{name: "store server frozen", aims: storeOf, short: brief, long: lasting, begin: storeFrozen(1)},
	{name: "store quorum cut", aims: storeOf, short: brief, long: lasting, excuses: true, begin: storeCut(2)},
	{name: "store quorum killed", aims: storeOf, short: brief, long: lasting, excuses: true, begin: storeKilled(2)},
	{name: "store quorum frozen", aims: storeOf, short: brief, long: lasting, excuses: true, begin: storeFrozen(2)},
	{name: "store killed", aims: storeOf, short: brief, long: lasting, excuses: true, begin: storeKilled(3)},
	// Processes.
	{name: "kill agent", aims: anybody, short: brief, long: lasting, excuses: true, stopsAgent: true, begin: killAgent},
	{name: "freeze agent", aims: anybody, short: brief, long: lasting, excuses: true, stopsAgent: true, begin: freezeAgent},
	{name: "kill postmaster", aims: anybody, short: moment, excuses: true, begin: killPostmaster},
	{name: "kill postgres", aims: anybody, short: moment, excuses: true, begin: killPostgres},
	{name: "kill backend", aims: []aim{leader}, short: moment, excuses: true, begin: killBackend},
	{name: "freeze postmaster", aims: anybody, short: brief, long: lasting, excuses: true, begin: freezePostmaster},
	{name: "freeze postgres", aims: anybody, short: brief, long: lasting, excuses: true, begin: freezePostgres},
	{name: "kill both", aims: anybody, short: brief, long: lasting, excuses: true, begin: killBoth},
	// Machines.
	{name: "power off", aims: anybody, weight: 2, short: brief, long: lasting, excuses: true, begin: powerOff},
	{name: "power off all", aims: []aim{all}, short: brief, long: lasting, excuses: true, alone: true, begin: powerOffAll},
	{name: pauseHost, aims: anybody, short: brief, long: lasting, excuses: true, alone: true, stopsAgent: true, begin: freezeHost},
	{name: "full disk", aims: anybody, short: span{10 * time.Second, 30 * time.Second}, excuses: true, begin: fullDisk},
	// Operators.
	{name: "switchover", aims: []aim{leader}, weight: 3, short: moment, begin: switchover},
	{name: "restart", aims: anybody, weight: 2, short: moment, begin: restart},
	{name: "reinitialize", aims: []aim{replica}, weight: 2, short: moment, begin: reinitialize},
	{name: "stop agent", aims: anybody, weight: 2, short: brief, long: lasting, begin: stopAgent},
	{name: "pause", aims: []aim{all}, short: brief, begin: pause},
	{name: "settings", aims: []aim{all}, short: brief, begin: settings},
}
