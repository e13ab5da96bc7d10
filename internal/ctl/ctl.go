// Package ctl is the command line for people and scripts that look at clusters and act on them:
// `patronictl COMMAND`, and the same commands as `regent COMMAND`.
//
// What other programs read is Patroni 4.1's to the byte: json, yaml and tsv, exit codes, which
// stream carries what, prompts and their answers (ctl.md sections 1 to 8). The pretty table is
// narrow by default, the one of Patroni 2.0 to 2.1; --wide, or `layout: wide` in the section
// ctl, prints 4.1's columns.
//
// On purpose different: nothing waits for ever. A store that does not answer is an error after
// StoreTimeout, and a member that does not answer a question after MemberTimeout.
//
// The commands know no DCS and no HTTP: Connect gives them a Site to work on.
package ctl

import (
	"context"
	"io"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
)

const (
	// StoreTimeout bounds one access to the store.
	StoreTimeout = 10 * time.Second
	// MemberTimeout bounds one question to a member. Requests that make PostgreSQL restart or
	// change hands have no limit but the interrupt key.
	MemberTimeout = 10 * time.Second
)

// Store is what the commands need of one cluster's part of a DCS.
type Store interface {
	Snapshot(ctx context.Context) (*cluster.Snapshot, error)
	// Put writes a key if it is still at prev; dcs.ErrConflict else.
	Put(ctx context.Context, key string, value []byte, prev cluster.Revision) (cluster.Revision, error)
	// RemoveAll deletes every key of the cluster.
	RemoveAll(ctx context.Context) error
	Close() error
}

// Caller sends one request to the REST API of a member. An HTTP status of any kind is an answer; an
// error means that there was none. A request that may have been carried out is not repeated.
type Caller interface {
	Call(ctx context.Context, method, url string, body []byte) (status int, reply []byte, err error)
}

// Site is where the clusters of one configuration live.
type Site struct {
	Scope string // the cluster that is meant when none is named; empty: none
	Citus bool   // the cluster is one of several groups, each with keys of its own
	Group *int   // the configured Citus group
	Wide  bool   // layout: wide
	Where string // the store's address, for messages
	// Open opens a cluster's part of the store; group is nil but for one group of a Citus cluster.
	Open func(ctx context.Context, scope string, group *int) (Store, error)
	// Groups lists the groups of a Citus cluster in ascending order; nil: none can be listed.
	Groups func(ctx context.Context, scope string) ([]int, error)
	Caller Caller
	// Problems of the configuration that do not keep a command from working, for doctor.
	Problems []string
	// What doctor looks at further; nil: not here.
	Member *config.Settings                                         // of the member on this machine
	Clock  func(ctx context.Context, url string) (time.Time, error) // the clock of the machine that serves a URL, in whole seconds
	Fsyncs func(ctx context.Context) []Fsync                        // how fast the servers of the store write to their disks
}

// Fsync is how long one server of the store has taken to write its log to disk.
type Fsync struct {
	Server string
	P99    time.Duration // 99 of 100 took at most this
	Err    error         // the server did not say
}

// Options are the global ones: where to look.
type Options struct {
	ConfigFile string // -c; empty: the default file, if it exists
	DCS        string // -d: a URL that replaces the configured DCS
	Insecure   bool   // -k: do not verify the certificates of REST APIs
}

// Program is one run of the command line. All fields but Sleep are required, Install by adopt alone.
type Program struct {
	Name     string // as it was called: patronictl, regent
	In       io.Reader
	Out, Err io.Writer
	Terminal bool // standard output is a terminal
	Getenv   func(string) string
	Now      func() time.Time
	Connect  func(Options) (*Site, error)
	Install  func(path string, o Options) (*Installation, error)
	// Sleep waits; nil: for real.
	Sleep func(ctx context.Context, d time.Duration) error

	options Options
	output  string      // text, or json; empty is text
	report  *Report     // with --output json
	lines   chan answer // lines of In, once somebody asked
}
