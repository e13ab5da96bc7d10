package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/dcs"
)

// vector is one recorded run of Patroni's command line.
type vector struct {
	name           string
	args           []string
	env            map[string]string
	stdin          string
	stdout, stderr string
	exit           int
}

func readVector(t *testing.T, name string) vector {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	v := vector{name: name, env: map[string]string{}}
	var into *string
	for line := range strings.Lines(string(text)) {
		word := strings.TrimSuffix(line, "\n")
		switch {
		case into == nil && strings.HasPrefix(word, "# env "):
			key, value, _ := strings.Cut(word[6:], "=")
			v.env[key] = value
		case into == nil && strings.HasPrefix(word, "$ patronictl"):
			v.args = split(strings.TrimPrefix(word, "$ patronictl"))
		case word == "--- stdin":
			into = &v.stdin
		case word == "--- stdout":
			into = &v.stdout
		case word == "--- stderr":
			into = &v.stderr
		case strings.HasPrefix(word, "--- exit "):
			v.exit, _ = strconv.Atoi(word[9:])
		case word == "(no newline at end of stdout)":
			v.stdout = strings.TrimSuffix(v.stdout, "\n")
		case into != nil:
			*into += line
		}
	}
	if strings.HasSuffix(name, "eof.txt") {
		v.stdin = "" // recorded as an empty line
	}
	return v
}

// split reads a command line with single quotes.
func split(s string) []string {
	var words []string
	for _, m := range regexp.MustCompile(`'([^']*)'|\S+`).FindAllStringSubmatch(s, -1) {
		if strings.HasPrefix(m[0], "'") {
			words = append(words, m[1])
		} else {
			words = append(words, m[0])
		}
	}
	return words
}

func vectors(t *testing.T, pattern string) []vector {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no vectors %s: %v", pattern, err)
	}
	var list []vector
	for _, p := range paths {
		name, _ := filepath.Rel("testdata", p)
		list = append(list, readVector(t, name))
	}
	return list
}

// fakeStore holds the keys of all clusters below one namespace, like a very small etcd.
type fakeStore struct {
	keys     map[string]cluster.KeyValue // by absolute key
	revision cluster.Revision
	touched  func(s *fakeStore) // after every snapshot
}

func newFakeStore(keys map[string]string) *fakeStore {
	s := &fakeStore{keys: map[string]cluster.KeyValue{}}
	for k, v := range keys {
		s.set(k, v)
	}
	return s
}

func (s *fakeStore) set(key, value string) {
	s.revision++
	s.keys[key] = cluster.KeyValue{Value: []byte(value), Revision: s.revision}
}

type fakeCluster struct {
	*fakeStore
	root string
}

func (c fakeCluster) Snapshot(context.Context) (*cluster.Snapshot, error) {
	var kvs []cluster.KeyValue
	for key, kv := range c.keys {
		if name, ok := strings.CutPrefix(key, c.root); ok {
			kv.Key = name
			kvs = append(kvs, kv)
		}
	}
	snapshot := cluster.NewSnapshot(c.revision, kvs)
	if c.touched != nil {
		c.touched(c.fakeStore)
	}
	return snapshot, nil
}

func (c fakeCluster) Put(_ context.Context, key string, value []byte, prev cluster.Revision) (cluster.Revision, error) {
	if c.keys[c.root+key].Revision != prev {
		return 0, dcs.ErrConflict
	}
	c.set(c.root+key, string(value))
	return c.revision, nil
}

func (c fakeCluster) RemoveAll(context.Context) error {
	for key := range c.keys {
		if strings.HasPrefix(key, c.root) {
			delete(c.keys, key)
		}
	}
	return nil
}

func (c fakeCluster) Close() error { return nil }

func (s *fakeStore) open(_ context.Context, scope string, group *int) (Store, error) {
	root := "/service/" + scope + "/"
	if group != nil {
		root += fmt.Sprint(*group) + "/"
	}
	return fakeCluster{s, root}, nil
}

func (s *fakeStore) groups(_ context.Context, scope string) ([]int, error) {
	seen := map[int]bool{}
	for key := range s.keys {
		if rest, ok := strings.CutPrefix(key, "/service/"+scope+"/"); ok {
			first, _, _ := strings.Cut(rest, "/")
			if n, err := strconv.Atoi(first); err == nil {
				seen[n] = true
			}
		}
	}
	var list []int
	for n := range seen {
		list = append(list, n)
	}
	slices.Sort(list)
	return list, nil
}

// request is what a member was asked, with a blank between method, path and body.
type fakeMembers struct {
	reply func(method, url, body string) (int, string, error)
	mu    sync.Mutex // some commands ask all members at once
	asked []string
}

func (m *fakeMembers) Call(_ context.Context, method, url string, body []byte) (int, []byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, strings.TrimSpace(method+" "+url+" "+string(body)))
	if m.reply == nil {
		return 0, nil, errors.New("connection refused")
	}
	status, reply, err := m.reply(method, url, string(body))
	return status, []byte(reply), err
}

// recordedAt is a moment in the recorded runs; prompts and log lines show the time.
var recordedAt = time.Date(2026, 11, 22, 22, 31, 16, 0, time.UTC)

// play runs a vector's command on a site and returns what it printed.
func play(t *testing.T, v vector, site *Site) (stdout, stderr string, exit int) {
	t.Helper()
	return playWith(t, v, site, func(context.Context, time.Duration) error { return nil })
}

func playWith(t *testing.T, v vector, site *Site, sleep func(context.Context, time.Duration) error) (stdout, stderr string, exit int) {
	t.Helper()
	var out, errs bytes.Buffer
	now := recordedAt
	p := &Program{
		Name: "patronictl", In: strings.NewReader(v.stdin), Out: &out, Err: &errs,
		Getenv: func(name string) string { return v.env[name] },
		Now:    func() time.Time { return now },
		Sleep:  sleep,
		Connect: func(o Options) (*Site, error) {
			if site == nil {
				return nil, errors.New("this run must not connect")
			}
			return site, nil
		},
	}
	root := p.Root("test")
	root.AddCommand(append(p.Commands(), p.Own()...)...)
	exit = Run(t.Context(), root, v.args, &errs)
	return out.String(), errs.String(), exit
}

// compare reports the first difference of a run from its vector, times of day aside.
func compare(t *testing.T, v vector, stdout, stderr string, exit int) {
	t.Helper()
	if have, want := timeless(stdout), timeless(v.stdout); have != want {
		t.Errorf("%s: standard output: have\n%s\nwant\n%s", v.name, have, want)
	}
	if have, want := timeless(stderr), timeless(v.stderr); have != want {
		t.Errorf("%s: standard error: have\n%s\nwant\n%s", v.name, have, want)
	}
	if exit != v.exit {
		t.Errorf("%s: exit code: have %d, want %d", v.name, exit, v.exit)
	}
}

var times = regexp.MustCompile(`(?m)2026-11-22[ T]\d\d:\d\d(:\d\d([,.]\d+)?)?`)

// timeless replaces times of the recording by their pattern; the columns of a table stay where they are.
func timeless(s string) string {
	return times.ReplaceAllStringFunc(s, func(at string) string {
		return regexp.MustCompile(`\d`).ReplaceAllString(at, "9")
	})
}
