package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/schema"
)

// outputSchemas are the JSON Schemas in the page about --output json, by their names.
func outputSchemas(t *testing.T) schema.Set {
	t.Helper()
	const page = "../../docs/reference/output.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	body, _, ok := strings.Cut(rest, "```")
	var set schema.Set
	if err := yaml.Unmarshal([]byte(body), &set); !ok || err != nil {
		t.Fatalf("%s has no block of YAML with schemas: %v", page, err)
	}
	return set
}

// answering makes the members of a recorded cluster answer: by member's name, the status document; "" is no answer.
func answering(s *scene, statuses map[string]string) {
	recorded := s.members.reply
	s.members.reply = func(method, address, body string) (int, string, error) {
		u, _ := url.Parse(address)
		status, known := statuses[strings.TrimSuffix(u.Hostname(), ".test")]
		switch {
		case method != "GET":
			return recorded(method, address, body)
		case !known || status == "":
			return 0, "", errors.New("connection refused")
		}
		return 200, status, nil
	}
}

const (
	primaryStatus = `{"state":"running","role":"primary","server_version":150018,"xlog":{"location":100},"timeline":5,"patroni":{"name":"node1"},"regent":{"version":"0.1"}}`
	replicaStatus = `{"state":"running","role":"replica","server_version":150018,"xlog":{"received_location":%d,"replayed_location":60},"timeline":5,"replication_state":"streaming","patroni":{"name":"node2"}}`
)

// jsonOf runs a command with --output json and checks what it prints against its schema.
func jsonOf(t *testing.T, s *scene, name string, args ...string) (text, stderr string, exit int) {
	t.Helper()
	stdout, stderr, exit := play(t, vector{args: append(args, "--output", "json")}, s.site)
	var v any
	if err := json.Unmarshal([]byte(stdout), &v); err != nil {
		t.Fatalf("%q: standard output is no JSON: %v\n%s", args, err, stdout)
	}
	for _, p := range outputSchemas(t).Check(name, v) {
		t.Errorf("%q: %s", args, p)
	}
	return stdout, stderr, exit
}

func TestActingCommandsReport(t *testing.T) {
	for _, c := range []struct {
		vector string // of whose table and answers the cluster is made
		args   []string
		exit   int
		want   string
	}{
		{"restart/all-force.txt", []string{"restart", "demo", "--force"}, 0, `{"member":"node1","ok":true,"status":200,"message":"Success: restart on member node1"}`},
		{"reload/all.txt", []string{"reload", "demo", "--force"}, 0, `"ok":true,"error"`},
		{"reload/badmember.txt", []string{"reload", "demo", "nobody", "--force"}, 1, `"ok":false,"error":"No 'any' among provided members","outcomes":[]}`},
		{"reinit/leader-force.txt", []string{"reinit", "demo", "node1", "--force"}, 1, `"error":"No replica among provided members"`},
		{"switchover/force-candidate.txt", []string{"switchover", "--candidate", "node2", "--force"}, 0, `"message":"Successfully switched over to \"node2\""}`},
		{"switchover/wrong-leader.txt", []string{"switchover", "--leader", "node2", "--force"}, 1, `"error":"Member node2 is not the leader of cluster demo"`},
		{"flush/switchover-none.txt", []string{"flush", "demo", "switchover"}, 0, `"message":"No pending scheduled switchover"}`},
		{"list/idle-pretty.txt", []string{"edit-config", "demo", "-s", "ttl=25", "--force"}, 0, `"message":"Configuration changed"}`},
		{"list/idle-pretty.txt", []string{"show-config"}, 0, `"data":{"loop_wait":3,`},
		{"list/idle-pretty.txt", []string{"dsn"}, 0, `"data":{"host":"127.0.0.1","member":"node1","port":24432}`},
		{"list/idle-pretty.txt", []string{"version"}, 0, `"data":{"patroni":"`},
	} {
		from := readVector(t, c.vector)
		if len(tables(from.stdout)) == 0 {
			from = readVector(t, "list/idle-pretty.txt")
		}
		text, _, exit := jsonOf(t, replay(t, from), "report", c.args...)
		if c.want = strings.TrimSuffix(c.want, `,"error"`); exit != c.exit || !strings.Contains(text, c.want) {
			t.Errorf("%q: have exit %d and %s, want exit %d and %s", c.args, exit, text, c.exit, c.want)
		}
	}
}

func TestLookingCommandsPrintJSON(t *testing.T) {
	s := replay(t, readVector(t, "list/tags-pretty.txt"))
	plain, _, _ := play(t, vector{args: []string{"list", "-f", "json"}}, s.site)
	for _, name := range []string{"list", "topology"} {
		text, _, exit := jsonOf(t, s, "list", name)
		if exit != 0 || name == "list" && text != plain {
			t.Errorf("%s: have exit %d and %s, want what list -f json prints: %s", name, exit, text, plain)
		}
	}
	jsonOf(t, s, "history", "history")
}

func TestDryRun(t *testing.T) {
	near, far := fmt.Sprintf(replicaStatus, 90), fmt.Sprintf(replicaStatus, 80)
	base := map[string]string{"node1": primaryStatus, "node2": far, "node3": near}
	for name, c := range map[string]struct {
		change   map[string]string // of answers
		args     []string
		exit     int
		possible bool
		want     string // in the JSON
	}{
		"the one with most WAL":   {nil, nil, 0, true, `"candidate":"node3"`},
		"as asked":                {nil, []string{"--candidate", "node2"}, 0, true, `"candidate":"node2"`},
		"its lag":                 {nil, []string{"--candidate", "node2"}, 0, true, `"receive_lag":20,"replay_lag":40`},
		"scheduled":               {nil, []string{"--scheduled", "2099-01-01T00:00:00+00:00"}, 0, true, `"scheduled_at":"2099-01-01T00:00:00+00:00"`},
		"silent leader":           {map[string]string{"node1": ""}, nil, 1, false, "only a failover is left"},
		"candidate down":          {map[string]string{"node2": ""}, []string{"--candidate", "node2"}, 1, false, "does not answer: connection refused"},
		"far behind":              {map[string]string{"node1": strings.Replace(primaryStatus, "100", "9000100", 1)}, nil, 1, false, "9000010 bytes behind, maximum_lag_on_failover is 1048576"},
		"another timeline":        {map[string]string{"node2": strings.Replace(far, `"timeline":5`, `"timeline":4`, 1)}, []string{"--candidate", "node2"}, 1, false, "on timeline 4, the leader is on 5"},
		"does not stream":         {map[string]string{"node2": strings.Replace(far, "streaming", "", 1)}, []string{"--candidate", "node2"}, 1, false, "does not stream"},
		"neither guard nor dog":   {map[string]string{"node2": strings.Replace(far, "{", `{"watchdog_failed":true,`, 1)}, []string{"--candidate", "node2"}, 1, false, "must not lead"},
		"a leader of Patroni's":   {map[string]string{"node1": strings.Replace(primaryStatus, `"regent"`, `"x"`, 1)}, nil, 0, true, "2.6 s"},
		"PostgreSQL on its knees": {map[string]string{"node1": `{"state":"stopped","role":"demoted"}`}, nil, 1, false, "the PostgreSQL of leader node1 is stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			s := replay(t, readVector(t, "list/idle-pretty.txt"))
			statuses := map[string]string{}
			for member, text := range base {
				statuses[member] = text
				if changed, ok := c.change[member]; ok {
					statuses[member] = changed
				}
			}
			answering(s, statuses)
			args := append([]string{"switchover", "--dry-run"}, c.args...)
			text, _, exit := jsonOf(t, s, "report", args...)
			var report map[string]any
			if err := json.Unmarshal([]byte(text), &report); err != nil {
				t.Fatal(err)
			}
			for _, p := range outputSchemas(t).Check("preview", report["data"]) {
				t.Error(p)
			}
			if possible := strings.Contains(text, `"possible":true`); exit != c.exit || possible != c.possible || !strings.Contains(text, c.want) {
				t.Errorf("have exit %d, possible %t: %s\nwant exit %d, possible %t, and %s", exit, possible, text, c.exit, c.possible, c.want)
			}
			stdout, _, exit := play(t, vector{args: args}, s.site)
			if exit != c.exit || !strings.Contains(stdout, "Dry run: nothing is changed\n") || strings.Contains(stdout, "Expected outage") != c.possible {
				t.Errorf("for people: exit %d: %s", exit, stdout)
			}
			if i := slices.IndexFunc(s.members.asked, func(r string) bool { return !strings.HasPrefix(r, "GET ") }); i >= 0 {
				t.Errorf("a dry run asked for %s", s.members.asked[i])
			}
		})
	}
}

func TestDoctor(t *testing.T) {
	replica := fmt.Sprintf(replicaStatus, 90)
	healthy := map[string]string{"node1": primaryStatus, "node2": replica, "node3": replica}
	for name, c := range map[string]struct {
		vector  string
		change  func(map[string]string)
		exit    int
		verdict string // of the finding
		want    string
	}{
		"all is well":        {"list/idle-pretty.txt", nil, 0, fine, "could take over now: node2, node3"},
		"member away":        {"list/idle-pretty.txt", func(m map[string]string) { m["node3"] = "" }, 1, problem, "its REST API does not answer: connection refused"},
		"nobody could":       {"list/idle-pretty.txt", func(m map[string]string) { m["node2"], m["node3"] = "", "" }, 1, problem, "nobody could take over now"},
		"leader away":        {"list/idle-pretty.txt", func(m map[string]string) { m["node1"] = "" }, 1, problem, "holds the lock, but does not answer"},
		"leader no primary":  {"list/idle-pretty.txt", func(m map[string]string) { m["node1"] = replica }, 1, problem, "holds the lock, but its PostgreSQL is running as replica"},
		"no leader":          {"list/paused-primary-stopped.txt", nil, 1, problem, "nobody holds the lock"},
		"paused":             {"list/paused-pretty.txt", nil, 0, warning, "the cluster is paused"},
		"pending restart":    {"list/idle-pretty.txt", func(m map[string]string) { m["node2"] = strings.Replace(replica, "{", `{"pending_restart":true,`, 1) }, 0, warning, "settings wait for a restart"},
		"does not stream":    {"list/idle-pretty.txt", func(m map[string]string) { m["node2"] = strings.Replace(replica, "streaming", "", 1) }, 0, warning, "does not stream from the leader"},
		"another timeline":   {"list/idle-pretty.txt", func(m map[string]string) { m["node2"] = strings.Replace(replica, ":5", ":4", 1) }, 1, problem, "on timeline 4, the leader is on 5"},
		"another PostgreSQL": {"list/idle-pretty.txt", func(m map[string]string) { m["node2"] = strings.Replace(replica, "150018", "160001", 1) }, 1, problem, "another major version"},
		"no guard": {"list/idle-pretty.txt", func(m map[string]string) {
			m["node1"] = strings.Replace(primaryStatus, `"0.1"`, `"0.1","guard":{"problem":"no room"}`, 1)
		}, 0, warning, "no guard: no room"},
		"store away": {"", nil, 1, problem, "without the store nobody can become the leader"},
	} {
		t.Run(name, func(t *testing.T) {
			from := c.vector
			if from == "" {
				from = "list/idle-pretty.txt"
			}
			s := replay(t, readVector(t, from))
			statuses := map[string]string{"node1": healthy["node1"], "node2": healthy["node2"], "node3": healthy["node3"]}
			if c.change != nil {
				c.change(statuses)
			}
			answering(s, statuses)
			if c.vector == "" {
				s.site.Open = failing(s.site.Open)
			}
			text, _, exit := jsonOf(t, s, "findings", "doctor")
			var findings []Finding
			if err := json.Unmarshal([]byte(text), &findings); err != nil {
				t.Fatal(err)
			}
			hit := slices.ContainsFunc(findings, func(f Finding) bool {
				return f.Verdict == c.verdict && strings.Contains(f.Found+f.Advice, c.want) && (f.Verdict == fine || f.Advice != "")
			})
			if !hit || exit != c.exit {
				t.Errorf("have exit %d: %s\nwant exit %d, %s: %s", exit, text, c.exit, c.verdict, c.want)
			}
			stdout, _, _ := play(t, vector{args: []string{"doctor"}}, s.site)
			if !strings.Contains(stdout, c.want) {
				t.Errorf("for people: %s", stdout)
			}
		})
	}
}

func TestDoctorLooksAtTheDisk(t *testing.T) {
	for free, want := range map[uint64]string{100: fine, 14: warning, 4: problem} {
		if f := diskFinding("/data", free<<20, 100<<20); f.Verdict != want {
			t.Errorf("%d %% free: have %s, want %s", free, f.Verdict, want)
		}
	}
	s := replay(t, readVector(t, "list/idle-pretty.txt"))
	s.site.Member = &config.Settings{Postgres: config.Postgres{DataDir: t.TempDir()}, Watchdog: config.Watchdog{Mode: "off"}}
	s.site.Problems = []string{"ttl 5 is too small"}
	answering(s, nil)
	text, _, _ := jsonOf(t, s, "findings", "doctor")
	for _, want := range []string{`"check":"disk","subject":"` + s.site.Member.Postgres.DataDir + `"`, `"check":"configuration","subject":"","verdict":"warning","found":"ttl 5 is too small"`} {
		if !strings.Contains(text, want) {
			t.Errorf("have %s, want %s", text, want)
		}
	}
}

func TestDoctorComparesClocks(t *testing.T) {
	const give = 510 * time.Millisecond
	for name, c := range map[string]struct {
		clocks  []ahead
		verdict string
		want    string
	}{
		"alone":          {[]ahead{{"a", time.Hour, give}}, fine, "those of 1 members agree"},
		"together":       {[]ahead{{"a", 0, give}, {"b", time.Second, give}, {"c", 2 * time.Second, give}}, fine, "those of 3 members agree"},
		"apart":          {[]ahead{{"a", 0, give}, {"b", -33 * time.Second, give}, {"c", 2 * time.Second, give}}, warning, "that of c is 35s ahead of that of b"},
		"a slow network": {[]ahead{{"a", 0, give}, {"b", 5 * time.Second, 4 * time.Second}}, fine, "agree"},
		"years apart":    {[]ahead{{"a", 0, give}, {"b", -20 * 365 * 24 * time.Hour, give}}, warning, "that of a is"},
	} {
		f := clocksFinding(c.clocks)
		if len(f) != 1 || f[0].Verdict != c.verdict || !strings.Contains(f[0].Found, c.want) {
			t.Errorf("%s: have %v, want %s: %s", name, f, c.verdict, c.want)
		}
	}
	s := replay(t, readVector(t, "list/idle-pretty.txt"))
	answering(s, map[string]string{"node1": primaryStatus})
	s.site.Clock = func(_ context.Context, url string) (time.Time, error) {
		if strings.Contains(url, "node3") {
			return time.Time{}, errors.New("refused")
		}
		return time.Date(2026, 1, 2, 3, 4, len(url)%2*30, 0, time.UTC), nil
	}
	text, _, _ := jsonOf(t, s, "findings", "doctor")
	if !strings.Contains(text, `"check":"clocks","subject":"","verdict":"ok","found":"those of 2 members agree`) {
		t.Errorf("have %s, want the clocks of the two that answer", text)
	}
}

func TestDoctorLooksAtTheStoresDisks(t *testing.T) {
	s := replay(t, readVector(t, "list/idle-pretty.txt"))
	answering(s, nil)
	s.site.Fsyncs = func(context.Context) []Fsync {
		return []Fsync{{"e1:2379", 8 * time.Millisecond, nil}, {"e2:2379", 32 * time.Millisecond, nil}, {"e3:2379", 0, errors.New("refused")}}
	}
	text, _, _ := jsonOf(t, s, "findings", "doctor")
	for _, want := range []string{`"subject":"e1:2379","verdict":"ok"`, `"subject":"e2:2379","verdict":"warning","found":"99 of 100 writes of its log to disk take 32ms at most"`} {
		if !strings.Contains(text, want) {
			t.Errorf("have %s, want %s", text, want)
		}
	}
	if strings.Contains(text, "e3:2379") {
		t.Errorf("have %s, want nothing of a server that does not tell", text)
	}
}

func TestDoctorLooksAtTheWatchdog(t *testing.T) {
	for _, c := range []struct {
		mode    string
		refused error
		verdict string
		want    string
	}{
		{"automatic", nil, fine, "the device is there"},
		{"automatic", unix.ENOENT, fine, "the guard alone"},
		{"automatic", unix.EACCES, warning, "not for us"},
		{"required", nil, fine, "required"},
		{"required", unix.ENOENT, warning, "cannot lead"},
		{"off", unix.ENOENT, fine, "off"},
	} {
		f := watchdogFinding(config.Watchdog{Mode: c.mode, Device: "/dev/watchdog"}, c.refused)
		if f.Verdict != c.verdict || !strings.Contains(f.Found, c.want) || (f.Verdict != fine) != (f.Advice != "") {
			t.Errorf("%s, %v: have %+v, want %s: %s", c.mode, c.refused, f, c.verdict, c.want)
		}
	}
}

// failing is a store that does not answer.
func failing(open func(context.Context, string, *int) (Store, error)) func(context.Context, string, *int) (Store, error) {
	return func(ctx context.Context, scope string, group *int) (Store, error) {
		_, err := open(ctx, scope, group)
		return nil, errors.Join(errors.New("connect to the store: refused"), err)
	}
}
