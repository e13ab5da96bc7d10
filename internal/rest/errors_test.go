package rest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/agent"
	"github.com/regent-ha/regent/internal/cluster"
)

// exchange is one recorded request with its reply.
type exchange struct {
	request string // method and path
	headers []string
	body    string
	hasBody bool
	code    int // 0: the connection was closed
	reply   string
}

func readExchange(t *testing.T, file string) exchange {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	e := exchange{}
	rest := string(text)
	for strings.HasPrefix(rest, "#") || strings.HasPrefix(rest, ">") {
		line, after, _ := strings.Cut(rest, "\n")
		rest = after
		content, ok := strings.CutPrefix(line, "> ")
		switch {
		case !ok:
		case e.request == "":
			e.request = content
		case strings.HasPrefix(content, "Authorization:") || strings.HasPrefix(content, "Transfer-Encoding:"):
			e.headers = append(e.headers, content)
		default:
			e.body, e.hasBody = content, true
		}
	}
	rest = strings.TrimPrefix(rest, "\n")
	if strings.TrimSpace(rest) == "" {
		return e
	}
	head, reply, _ := strings.Cut(rest, "\n\n")
	if _, err := fmt.Sscanf(head, "HTTP/1.0 %d", &e.code); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	e.reply = strings.TrimSuffix(reply, "\n")
	return e
}

// withoutLength are the requests that were sent without a Content-Length.
func (e exchange) withoutLength(name string) bool {
	return strings.Contains(name, "nolen") || strings.Contains(name, "no-length") || strings.Contains(name, "nobody")
}

// send writes the very request and reads the reply.
func send(t *testing.T, address, name string, e exchange) (code int, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head := e.request + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
	for _, h := range e.headers {
		head += h + "\r\n"
	}
	switch {
	case strings.Contains(name, "chunked"):
		e.body = "0\r\n\r\n"
	case !e.withoutLength(name):
		head += fmt.Sprintf("Content-Length: %d\r\n", len(e.body))
	}
	if _, err := io.WriteString(conn, head+"\r\n"+e.body); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	method, path, _ := strings.Cut(e.request, " ")
	checkContract(t, method, path, resp.StatusCode, resp.Header, string(b))
	return resp.StatusCode, string(b)
}

// settle makes the request take effect: the candidate, or somebody, holds the lock and the key is gone.
func settle(f *fake, want cluster.Failover) {
	if want.ScheduledAt != nil {
		return
	}
	f.edit(func(s *cluster.Snapshot) {
		s.Failover = cluster.Failover{}
		if want.Candidate != "" {
			s.Leader.Name = want.Candidate
		}
	})
}

// errorCase says which agent answers a recorded request, when it is not node1 of the idle cluster, and what we answer
// differently.
type errorCase struct {
	state, member string
	prepare       func(f *fake)
	code          int // ours, with the reason
	reply         string
	why           string
}

var errorCases = map[string]errorCase{
	"chunked":                        {code: 400, why: "chunked bodies are understood, and this one is empty"},
	"cluster-with-scheduled-restart": {prepare: scheduledOn("cluster-with-scheduled-restart")},
	"config-patch-del":               {prepare: func(f *fake) { setConfig(f, cluster.Int(1), "foo") }},
	"dcs-down-patch-config":          {state: "dcs-down-no-failsafe", code: 503, reply: "read the store:", why: down},
	"dcs-down-reinit":                {state: "dcs-down-no-failsafe", code: 503, reply: "read the store:", why: down},
	"dcs-down-reload":                {state: "dcs-down-no-failsafe"},
	"dcs-down-restart-scheduled":     {state: "dcs-down-no-failsafe", code: 202, reply: "Restart scheduled", why: "a restart later needs no store now"},
	"dcs-down-switchover":            {state: "dcs-down-no-failsafe", code: 503, reply: "read the store:", why: down},
	"failover-success":               {member: "node2", prepare: func(f *fake) { f.edit(func(s *cluster.Snapshot) { s.Leader.Name = "node2" }) }},
	"failsafe-post-empty":            {state: "failsafe-enabled", prepare: failsafeOn},
	"failsafe-post-missing-keys":     {state: "failsafe-enabled", prepare: failsafeOn, code: 400, why: "a request that lacks something gets a reply"},
	"failsafe-post-to-primary":       {state: "failsafe-enabled", prepare: failsafeOn},
	"failsafe-post-to-replica":       {state: "failsafe-enabled", member: "node2", prepare: failsafeOn},
	"patroni-with-scheduled-restart": {prepare: scheduledOn("patroni-with-scheduled-restart")},
	"paused-restart-scheduled":       {state: "paused"},
	"paused-switchover-nocandidate":  {state: "paused"},
	"paused-switchover-scheduled":    {state: "paused"},
	"reinit-bad-json-leader":         {code: 400, why: "a body that cannot be read starts nothing and gets one reply"},
	"reinit-in-progress":             {member: "node2", prepare: job("reinitialize")},
	"restart-delete-ok":              {prepare: scheduledOn("patroni-with-scheduled-restart")},
	"restart-in-progress":            {member: "node2", prepare: job("reinitialize")},
	"restart-role-standby-leader":    {state: "standby-cluster", member: "sb1"},
	"restart-sched-twice":            {prepare: scheduledOn("patroni-with-scheduled-restart")},
	"switchover-delete-ok":           {prepare: planned},
	"switchover-delete-ok2":          {prepare: planned},
	"switchover-nofailover-candidate": {prepare: func(f *fake) {
		f.peers = map[string]agent.PeerStatus{"node2": {Reachable: true, NoFailover: true}}
	}},
	"sync-switchover-async-candidate": {state: "sync"},
	"method-trace":                    {},
}

func job(name string) func(*fake) {
	return func(f *fake) { f.status.Job = &agent.JobStatus{Name: name} }
}

// failsafeOn switches the mode on, which GET /cluster did not record.
func failsafeOn(f *fake) {
	f.status.Config.Document = f.status.Config.Document.Set(cluster.Flag(true), "failsafe_mode")
}

func planned(f *fake) {
	at := f.status.Wall.Add(time.Hour)
	f.edit(func(s *cluster.Snapshot) { s.Failover = cluster.Failover{From: "node1", ScheduledAt: &at, Revision: 5} })
}

func setConfig(f *fake, v cluster.Value, path ...string) {
	f.edit(func(s *cluster.Snapshot) { s.Config.Document = s.Config.Document.Set(v, path...) })
}

// scheduledOn takes the scheduled restart from a recorded document.
func scheduledOn(name string) func(*fake) {
	return func(f *fake) {
		r := &cluster.ScheduledRestart{Schedule: "2026-11-23T03:31:04.064515+00:00", Role: cluster.Primary, PostgresVersion: "15.99", Timeout: 60,
			PostmasterStart: "2026-11-22 22:30:30.815296+00:00"}
		f.status.ScheduledRestart = r
		f.status.SnapshotWall = time.Unix(1795386665, 0) // as recorded there
		f.edit(func(s *cluster.Snapshot) {
			s.Members = append([]cluster.Member(nil), s.Members...)
			s.Members[0].ScheduledRestart = r
		})
	}
}

func TestErrors(t *testing.T) {
	files, _ := filepath.Glob("testdata/errors/*.txt")
	if len(files) < 70 {
		t.Fatalf("have %d recorded requests, want 70 at least", len(files))
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := readExchange(t, "errors/"+filepath.Base(file))
			c := errorCases[name]
			if c.state == "" {
				c.state = "idle"
			}
			if c.member == "" {
				c.member = "node1"
			}
			f := recorded(t, c.state, c.member)
			f.requests = settle
			if c.prepare != nil {
				c.prepare(f)
			}
			if c.code != 0 {
				e.code, e.reply = c.code, c.reply
			}
			_, address := serve(t, f, Config{})
			code, body := send(t, address, name, e)
			if code != e.code {
				t.Fatalf("%s %s: have %d %q, want %d %q", e.request, e.body, code, body, e.code, e.reply)
			}
			switch {
			case c.why != "" && strings.HasPrefix(body, e.reply):
			case strings.HasPrefix(e.reply, "{"):
				have, err := cluster.ParseValue([]byte(body))
				want, wantErr := cluster.ParseValue([]byte(e.reply))
				if err != nil || wantErr != nil || !equal(withoutOwn(have), want) {
					t.Errorf("have %s\nwant %s", body, e.reply)
				}
			case strings.TrimSuffix(body, "\n") != e.reply:
				t.Errorf("%s %s: have %q, want %q", e.request, e.body, body, e.reply)
			}
		})
	}
}

func TestHistory(t *testing.T) {
	e := readExchange(t, "idle/history-nonempty.txt")
	f := recorded(t, "idle", "node1")
	var err error
	f.status.Snapshot.History, err = cluster.DecodeHistory([]byte(e.reply), 3)
	if err != nil {
		t.Fatal(err)
	}
	_, address := serve(t, f, Config{})
	if _, _, body := ask(t, "GET", "http://"+address+"/history", ""); body != e.reply {
		t.Errorf("have %s\nwant %s", body, e.reply)
	}
}

func TestOutcomeOfFailover(t *testing.T) {
	leader := func(name string, key bool) func(*fake, cluster.Failover) {
		return func(f *fake, want cluster.Failover) {
			f.edit(func(s *cluster.Snapshot) {
				s.Leader.Name = name
				if !key {
					s.Failover = cluster.Failover{}
				}
			})
		}
	}
	tests := map[string]struct {
		path, body string
		then       func(*fake, cluster.Failover)
		code       int
		reply      string
	}{
		"somebody else":   {"/switchover", `{"leader":"node1","candidate":"node2"}`, leader("node3", false), 200, `Switched over to "node3" instead of "node2"`},
		"somebody":        {"/switchover", `{"leader":"node1"}`, leader("node3", true), 200, `Successfully switched over to "node3"`},
		"other failover":  {"/failover", `{"candidate":"node2"}`, leader("node3", true), 200, `Failed over to "node3" instead of "node2"`},
		"failed":          {"/switchover", `{"leader":"node1"}`, leader("node1", false), 503, "Switchover failed"},
		"named failover":  {"/failover", `{"leader":"node1","candidate":"node2"}`, leader("node2", true), 200, `Successfully switched over to "node2"`},
		"names no text":   {"/failover", `{"candidate":5}`, nil, 400, ""},
		"leaderless":      {"/switchover", `{"leader":"nobody"}`, nil, 412, "leader name does not match"},
		"no good members": {"/switchover", `{"leader":"node1","candidate":"node3"}`, nil, 412, "switchover is not possible: no good candidates have been found"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := recorded(t, "idle", "node1")
			f.requests = tt.then
			f.peers = map[string]agent.PeerStatus{"node3": {Reachable: name != "no good members", WatchdogFailed: name == "no good members"}}
			_, address := serve(t, f, Config{})
			code, _, body := ask(t, "POST", "http://"+address+tt.path, tt.body)
			if code != tt.code || tt.reply != "" && body != tt.reply {
				t.Errorf("have %d %q, want %d %q", code, body, tt.code, tt.reply)
			}
		})
	}
}

// A switchover whose end nobody sees is bounded, and says that it may still go on.
func TestOutcomeUnknown(t *testing.T) {
	f := recorded(t, "idle", "node1")
	s, _ := serve(t, f, Config{})
	f.edit(func(s *cluster.Snapshot) { s.Failover = cluster.Failover{From: "node1"} })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	code, text := s.outcome(ctx, switchoverAction, "node1", "", time.Second)
	if code != 503 || text != "Switchover status unknown after 20 seconds; operation may still be in progress" {
		t.Errorf("have %d %q", code, text)
	}
}

func TestPrecheckWithoutCandidate(t *testing.T) {
	for state, want := range map[string]string{
		"sync": "switchover is not possible: can not find sync_standby",
		"idle": "switchover is not possible: cluster does not have members except leader",
	} {
		f := recorded(t, state, "node1")
		f.edit(func(s *cluster.Snapshot) {
			s.Members = s.Members[:1]
			s.Sync.Standbys = nil
		})
		_, address := serve(t, f, Config{})
		code, _, body := ask(t, "POST", "http://"+address+"/switchover", `{"leader":"node1"}`)
		if code != 412 || body != want {
			t.Errorf("have %d %q, want 412 %q", code, body, want)
		}
	}
}

// What cannot be given is refused, and nothing is written.
func TestConfigRefusesDurability(t *testing.T) {
	f := recorded(t, "idle", "node1")
	_, address := serve(t, f, Config{})
	for body, want := range map[string]string{
		`{"durability":{"survive":"all"}}`:                                  `durability.survive: have "all", want none, one-node or one-site`,
		`{"durability":{"survive":"one-node"},"synchronous_mode":false}`:    "synchronous_mode: have false, want on, quorum or nothing: durability.survive is one-node",
		`{"durability":{"survive":"one-site"},"synchronous_mode":"quorum"}`: "durability.survive: have one-site, and members without a tag site: node1, node2, node3; it needs members of two sites",
	} {
		for _, method := range []string{"PATCH", "PUT"} {
			if code, _, have := ask(t, method, "http://"+address+"/config", body); code != 400 || have != want {
				t.Errorf("%s %s: have %d %q, want 400 %q", method, body, code, have, want)
			}
		}
	}
	if code, _, have := ask(t, "PATCH", "http://"+address+"/config", `{"durability":{"survive":"one-node"}}`); code != 200 {
		t.Errorf("PATCH of a durability that can be given: have %d %q, want 200", code, have)
	}
}

func TestConfigConflicts(t *testing.T) {
	f := recorded(t, "idle", "node1")
	_, address := serve(t, f, Config{})
	late := func(n int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.conflict = n
	}
	late(1)
	if code, _, _ := ask(t, "PATCH", "http://"+address+"/config", `{"ttl":40}`); code != 409 {
		t.Errorf("PATCH that comes too late: have %d, want 409", code)
	}
	late(putTries - 1)
	if code, _, body := ask(t, "PUT", "http://"+address+"/config", `{"ttl":40}`); code != 200 || body != `{"ttl": 40}` {
		t.Errorf("PUT that comes too late a few times: have %d %q", code, body)
	}
	late(putTries)
	if code, _, _ := ask(t, "PUT", "http://"+address+"/config", `{"ttl":41}`); code != 502 {
		t.Errorf("PUT that always comes too late: have %d, want 502", code)
	}
	late(0)
	f.edit(func(s *cluster.Snapshot) { s.Config = cluster.DynamicConfig{} })
	f.publish(func(s *agent.Status) { s.StoreError = "read the store instead" })
	for method, want := range map[string]int{"GET": 502, "PATCH": 503} {
		if code, _, _ := ask(t, method, "http://"+address+"/config", `{"ttl":40}`); code != want {
			t.Errorf("%s without a configuration: have %d, want %d", method, code, want)
		}
	}
}

func TestWhy(t *testing.T) {
	_, address := serve(t, recorded(t, "idle", "node1"), Config{})
	for query, want := range map[string]struct {
		code int
		text string
	}{
		"":                             {200, `"verdict": "20 asked"`},
		"?limit=3":                     {200, `"verdict": "3 asked"`},
		"?limit=0":                     {400, "limit: have"},
		"?at=yesterday":                {400, "at: have"},
		"?at=2026-11-22T22:00:00":      {400, "at: have"},
		"?at=2026-11-22T22:00:00%2B02": {200, `"at": "2026-11-22T22:00:00+02:00"`},
		"?limit=13":                    {503, "the journal is not readable"},
	} {
		code, _, body := ask(t, "GET", "http://"+address+"/why"+query, "")
		if code != want.code || !strings.Contains(body, want.text) {
			t.Errorf("/why%s: have %d %s, want %d %s", query, code, body, want.code, want.text)
		}
	}
}

func TestRefusedByTheAgent(t *testing.T) {
	for err, want := range map[error]struct {
		code int
		text string
	}{
		fmt.Errorf("%w: rewind already in progress", agent.ErrBusy): {503, "restart failed: " + agent.ErrBusy.Error() + ": rewind already in progress"},
		fmt.Errorf("start: %w", context.DeadlineExceeded):           {503, "postgres is still starting"},
		io.ErrUnexpectedEOF: {503, "restart failed: unexpected EOF"},
	} {
		f := recorded(t, "idle", "node1")
		f.restart = func(agent.RestartRequest) error { return err }
		_, address := serve(t, f, Config{})
		if code, _, body := ask(t, "POST", "http://"+address+"/restart", ""); code != want.code || body != want.text {
			t.Errorf("%v: have %d %q, want %d %q", err, code, body, want.code, want.text)
		}
	}
}
