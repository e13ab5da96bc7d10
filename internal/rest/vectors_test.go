package rest

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
)

// difference is an answer that is not Patroni's, on purpose.
type difference struct {
	code string // ours
	why  string
}

const (
	down    = "the store is down: the answer says so instead of a closed connection"
	exact   = "paths are exact, Patroni looks for words in them"
	unknown = "an unknown path is not found, rather than out of service"
	slash   = "one slash at the end is forgiven"
	newer   = "replication_state counts, as in Patroni after 4.1.4"
	asGet   = "HEAD and OPTIONS answer what GET answers, documents and probes included"
)

// pathDifferences count in every state.
var pathDifferences = map[string]difference{
	"/primaryfoo":       {"404", exact},
	"/foo/leader":       {"404", exact},
	"/foo/replica":      {"404", exact},
	"/healthz":          {"404", exact},
	"/myhealth":         {"404", exact},
	"/patroni/x":        {"404", exact},
	"/cluster/x":        {"404", exact},
	"/REPLICA":          {"404", unknown},
	"/standby_leader_x": {"404", unknown},
	"/nosuch":           {"404", unknown},
	"/favicon.ico":      {"404", unknown},
	"/mpp":              {"404", unknown},
	"/reload":           {"404", unknown},
	"/switchover":       {"404", unknown},
	"/restart":          {"404", unknown},
	"/reinitialize":     {"404", unknown},
	"/sigterm":          {"404", unknown},
}

// memberDifferences are those of one member: path, then member.
var memberDifferences = map[string]difference{
	"/replica?replication_state=in+archive+recovery node2": {"503", newer},
	"/replica?replication_state=in+archive+recovery node3": {"503", newer},
	"/async/ node2":          {"200", slash},
	"/async/ node3":          {"200", slash},
	"/read-only-sync/ node1": {"200", slash},
}

// recordings are the states with a matrix, and their members.
var recordings = func() map[string][]string {
	found := map[string][]string{}
	files, _ := filepath.Glob("testdata/*/*.patroni.http")
	for _, f := range files {
		state := filepath.Base(filepath.Dir(f))
		found[state] = append(found[state], strings.TrimSuffix(filepath.Base(f), ".patroni.http"))
	}
	delete(found, "after-4.1.4")
	delete(found, "transitional")
	return found
}()

// table reads a matrix: the header's columns after the first ones, and the rows.
func table(t *testing.T, file string) (header []string, rows [][]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" {
			rows = append(rows, strings.Split(line, "\t"))
		}
	}
	return rows[0], rows[1:]
}

// get asks once and returns code, headers and body.
func ask(t testing.TB, method, url, body string) (code int, header http.Header, text string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	checkContract(t, method, url, resp.StatusCode, resp.Header, string(b))
	return resp.StatusCode, resp.Header, string(b)
}

func TestMatrices(t *testing.T) {
	if len(recordings) < 15 {
		t.Fatalf("have %d recorded states, want 15 at least", len(recordings))
	}
	for state, members := range recordings {
		for _, member := range members {
			t.Run(state+"/"+member, func(t *testing.T) {
				_, address := serve(t, recorded(t, state, member), Config{})
				for _, file := range []string{"matrix.tsv", "query-matrix.tsv"} {
					if fileExists(filepath.Join("testdata", state, file)) {
						compareMatrix(t, state+"/"+file, member, "http://"+address)
					}
				}
			})
		}
	}
}

func compareMatrix(t *testing.T, file, member, url string) {
	t.Helper()
	header, rows := table(t, file)
	column := slices.Index(header, member)
	for _, row := range rows {
		path, want := row[0], row[column]
		if want == "CLOSED" {
			want = "503" // see down
		}
		d, differs := pathDifferences[path]
		if !differs {
			d, differs = memberDifferences[path+" "+member]
		}
		if differs {
			if d.code == want {
				t.Errorf("%s: Patroni answers %s as well, the difference is none any more", path, want)
			}
			want = d.code
		}
		code, _, body := ask(t, "GET", url+path, "")
		if strconv.Itoa(code) != want {
			t.Errorf("GET %s: have %d, want %s\n%s", path, code, want, body)
		}
	}
}

func TestHeadAndOptions(t *testing.T) {
	readable := []string{"/liveness", "/readiness", "/patroni", "/cluster", "/history", "/config", "/metrics"} // see asGet
	for _, member := range []string{"node1", "node2", "node3"} {
		_, address := serve(t, recorded(t, "idle", member), Config{})
		header, rows := table(t, "idle/head-options-matrix.tsv")
		for _, row := range rows {
			method, path, want := row[0], row[1], row[slices.Index(header, member)]
			switch {
			case slices.Contains(readable, path):
				want = "200"
			case path == "/failsafe":
				want = "502"
			case path == "/nosuch":
				want = "404"
			}
			code, _, body := ask(t, method, "http://"+address+path, "")
			if strconv.Itoa(code) != want || body != "" {
				t.Errorf("%s %s on %s: have %d %q, want %s without a body", method, path, member, code, body, want)
			}
		}
	}
}

// withoutOwn removes what only Regent says.
func withoutOwn(v cluster.Value) cluster.Value { return v.Set(cluster.Value{}, "regent") }

func TestDocuments(t *testing.T) {
	for state, members := range recordings {
		for _, member := range members {
			t.Run(state+"/"+member, func(t *testing.T) {
				_, address := serve(t, recorded(t, state, member), Config{})
				compareDocument(t, "http://"+address+"/patroni", recordedBody(t, state+"/"+member+".patroni.http"))
				if topology := recordedBody(t, state+"/"+member+".cluster.http"); topology != nil {
					compareTopology(t, "http://"+address+"/cluster", topology)
				}
				if fileExists("testdata/" + state + "/" + member + ".metrics.http") {
					compareMetrics(t, "http://"+address+"/metrics", recordedBody(t, state+"/"+member+".metrics.http"), true)
				}
			})
		}
	}
}

// compareDocument wants Patroni's very bytes, but for our own object at the end.
func compareDocument(t *testing.T, url string, want []byte) {
	t.Helper()
	_, header, body := ask(t, "GET", url, "")
	have, err := cluster.ParseValue([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if h := withoutOwn(have).EncodeSpaced(); !bytes.Equal(h, want) {
		t.Errorf("GET %s\nhave %s\nwant %s", url, h, want)
	}
	if header.Get("Content-Type") != "application/json" || header.Get("Content-Length") != strconv.Itoa(len(body)) {
		t.Errorf("GET %s: have the header %v", url, header)
	}
}

// compareTopology ignores the order of fields: Patroni's own differs when a position is unknown.
func compareTopology(t *testing.T, url string, want []byte) {
	t.Helper()
	_, _, body := ask(t, "GET", url, "")
	have, err := cluster.ParseValue([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	expected, err := cluster.ParseValue(want)
	if err != nil {
		t.Fatal(err)
	}
	if !equal(have, expected) {
		t.Errorf("GET %s\nhave %s\nwant %s", url, body, want)
	}
}

// equal compares JSON without the order of fields.
func equal(a, b cluster.Value) bool {
	if a.Kind != b.Kind || a.Text != b.Text || len(a.Fields) != len(b.Fields) || len(a.Items) != len(b.Items) {
		return false
	}
	for i := range a.Items {
		if !equal(a.Items[i], b.Items[i]) {
			return false
		}
	}
	for _, f := range a.Fields {
		if v, ok := b.Get(f.Name); !ok || !equal(f.Value, v) {
			return false
		}
	}
	return true
}

// newMetrics are those of Patroni after 4.1.4.
var newMetrics = []string{"patroni_failsafe_mode_enabled", "patroni_failsafe_member", "patroni_failover_priority"}

func compareMetrics(t *testing.T, url string, want []byte, release bool) {
	t.Helper()
	_, _, body := ask(t, "GET", url, "")
	var have strings.Builder
	for line := range strings.Lines(body) {
		if !release || !slices.ContainsFunc(newMetrics, func(m string) bool { return strings.Contains(line, m) }) {
			have.WriteString(line)
		}
	}
	if have.String() != string(want) {
		t.Errorf("GET %s\nhave\n%s\nwant\n%s", url, have.String(), want)
	}
}

func TestNewerMetrics(t *testing.T) {
	f := recorded(t, "idle", "node1")
	want := recordedBody(t, "after-4.1.4/node1.metrics.http")
	// The recording is of another cluster: only what is new is compared here.
	_, address := serve(t, f, Config{})
	_, _, body := ask(t, "GET", "http://"+address+"/metrics", "")
	names := func(text string) (out []string) {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "#") {
				out = append(out, line)
			}
		}
		return out
	}
	if have := names(body); !slices.Equal(have, names(string(want))) {
		t.Errorf("have %q\nwant %q", have, names(string(want)))
	}
	for _, sample := range []string{`patroni_failsafe_mode_enabled{scope="demo",name="node1"} 0`, `patroni_failsafe_member{scope="demo",name="node1"} 0`,
		`patroni_failover_priority{scope="demo",name="node1"} 1`} {
		if !strings.Contains(body, sample+"\n") || !strings.Contains(string(want), sample+"\n") {
			t.Errorf("want the sample %s", sample)
		}
	}
}

func TestTransitionalStates(t *testing.T) {
	for _, name := range []string{"stopping.replica", "creating-replica.replica", "creating-replica.uninitialized"} {
		f := recorded(t, "transitional", name)
		f.status.Name = "node3"
		_, address := serve(t, f, Config{})
		compareDocument(t, "http://"+address+"/patroni", recordedBody(t, "transitional/"+name+".patroni.http"))
		compareMatrix(t, "transitional/matrix.tsv", name, "http://"+address)
	}
	for _, name := range []string{"starting.replica", "starting.replica.with-xlog"} {
		f := recorded(t, "after-4.1.4", name)
		f.status.Name = "node3"
		_, address := serve(t, f, Config{})
		compareDocument(t, "http://"+address+"/patroni", recordedBody(t, "after-4.1.4/"+name+".patroni.http"))
	}
}
