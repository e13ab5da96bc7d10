package verdict

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/regent-ha/regent/test/chaos/history"
)

// parse reads a transaction: "a/1 4-5 append 6:1 read 6:1,2" is one of member a on timeline 1, sent at second 4 and acknowledged at second 5. A word at the
// end may say unknown, refused or replica.
func parse(t *testing.T, line string) history.Txn {
	t.Helper()
	words := strings.Fields(line)
	x := history.Txn{Outcome: history.Done, LSN: 460}
	var sent, ended float64
	if _, err := fmt.Sscanf(strings.Replace(words[0], "/", " ", 1)+" "+strings.Replace(words[1], "-", " ", 1), "%s %d %f %f", &x.Member, &x.Timeline, &sent, &ended); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	x.Sent, x.Ended = second(sent), second(ended)
	for words = words[2:]; len(words) > 0; words = words[1:] {
		switch words[0] {
		case "replica":
			x.Replica = true
		case history.Unknown, history.Refused:
			x.Outcome = words[0]
		case "append", "read":
			key, values := list(t, words[1])
			s := history.Step{Key: key, Found: values}
			if words[0] == "append" {
				s.Append, s.Found = values[0], nil
			}
			x.Steps = append(x.Steps, s)
			words = words[1:]
		}
	}
	return x
}

// list reads "6:1,2".
func list(t *testing.T, text string) (key int, values []int64) {
	t.Helper()
	k, rest, _ := strings.Cut(text, ":")
	key, err := strconv.Atoi(k)
	if err != nil {
		t.Fatal(err)
	}
	for v := range strings.SplitSeq(rest, ",") {
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			values = append(values, n)
		}
	}
	return key, values
}

// In the good history a leads on timeline 1 until 10 s and b on timeline 2 from 30 s on.
func TestLists(t *testing.T) {
	for name, tt := range map[string]struct {
		txns string // one a line
		left string // lists in the end
		mode string
		want string // checks that are broken; none: it holds
		says string // part of the problem, or of the facts where it holds
	}{
		"one after the other":                               {"a/1 4-5 append 6:1 append 7:2\n a/1 6-7 read 6:1 append 6:3\n b/2 31-32 read 6:1,3 read 7:2", "6:1,3 7:2", "", "", "3 agree with what is left"},
		"a read beside an append does not see it":           {"a/1 4-7 append 6:1\n a/1 5-6 read 6:", "6:1", "", "", ""},
		"a read beside an append sees it":                   {"a/1 4-7 append 6:1\n a/1 5-6 read 6:1", "6:1", "", "", ""},
		"a read is answered before the append that it sees": {"a/1 5-6 read 6:1\n a/1 4-7 append 6:1", "6:1", "", "", ""},
		"an answer got lost, the append is there":           {"a/1 4-5 append 6:1 unknown\n a/1 6-7 read 6:\n a/1 8-9 read 6:1", "6:1", "", "", ""},
		"an answer got lost, the append is not":             {"a/1 4-5 append 6:1 unknown\n a/1 6-7 read 6:", "", "", "", ""},
		"a transaction sees its own appends":                {"a/1 4-5 append 6:1 append 6:2 read 6:1,2", "6:1,2", "", "", ""},

		"lost update":                          {"a/1 4-5 read 6: append 6:1\n a/1 4-5 read 6: append 6:2", "6:1,2", "", "serializable", "G-single:"},
		"write skew":                           {"a/1 4-5 read 6: append 7:1\n a/1 4-5 read 7: append 6:2", "6:2 7:1", "", "serializable", "G2:"},
		"each read of the other":               {"a/1 4-5 append 6:1 read 7:2\n a/1 4-5 append 7:2 read 6:1", "6:1 7:2", "", "serializable", "G1c:"},
		"two orders":                           {"a/1 4-5 append 6:1 append 7:2\n a/1 4-5 append 6:3 append 7:4", "6:1,3 7:4,2", "", "serializable", "G0:"},
		"a torn read":                          {"a/1 4-5 append 6:1 append 7:2\n a/1 4-5 read 6:1 read 7:", "6:1 7:2", "", "serializable", "G-single:"},
		"a stale read":                         {"a/1 4-5 append 6:1\n a/1 6-7 read 6:", "6:1", "", "serializable", "G-single in true time:"},
		"a stale append":                       {"a/1 4-5 append 6:1\n a/1 6-7 append 6:2", "6:2,1", "", "serializable", "G0 in true time:"},
		"a stale read of what nobody ever saw": {"a/1 9-9.1 append 6:1\n a/1 9.2-9.3 read 6:", "", "", "serializable", "timeline 1 of a: G-single in true time:"},
		"a stale read in a later term":         {"a/1 4-5 append 6:1\n b/2 31-32 read 6:", "6:1", "", "serializable", "all terms: G-single in true time:"},
		"a write skew of two terms":            {"a/1 4-35 read 6: append 7:1 unknown\n b/2 31-36 read 7: append 6:2", "6:2 7:1", "", "serializable", "all terms: G2:"},
		"read in another order":                {"a/1 4-6 append 6:1\n a/1 4-6 append 6:2\n a/1 6-7 read 6:2,1", "6:1,2", "", "serializable", "and is [1 2] in the end"},
		"two that differ":                      {"a/1 4-6 append 6:1\n a/1 4-6 append 6:2\n a/1 5-7 read 6:1\n a/1 5-7 read 6:2", "6:1,2", "", "serializable", "neither begins with the other"},

		"a value of a refused transaction": {"a/1 4-5 append 6:1 refused\n a/1 6-7 read 6:1", "", "", "serializable", "G1a"},
		"what is left is of a refused one": {"a/1 4-5 append 6:1 refused", "6:1", "", "serializable", "G1a"},
		"half a transaction":               {"a/1 4-5 append 6:1 append 6:2\n a/1 4-5 read 6:1", "6:1,2", "", "serializable", "G1b"},
		"a scattered transaction":          {"a/1 4-5 append 6:1 append 6:2\n a/1 4-5 append 6:3", "6:1,3,2", "", "serializable", "G1b"},
		"a value of another list":          {"a/1 4-5 append 7:1", "6:1", "", "serializable", "G1b"},
		"a value of nobody":                {"a/1 4-5 read 6:9", "", "", "serializable", "nobody has appended"},
		"a value twice":                    {"a/1 4-5 append 6:1\n a/1 6-7 read 6:1,1", "6:1", "", "serializable", "twice"},
		"its own appends are missing":      {"a/1 4-5 append 6:1 read 6:", "6:1", "", "serializable", "internal"},
		"it reads twice and differently":   {"a/1 4-5 append 6:1\n a/1 4-5 read 6: read 6:1", "6:1", "", "serializable", "internal"},

		"asynchronous: lost with the leader":       {"a/1 9.1-9.2 append 6:1", "", history.Async, "", "1 are missing, 1 after power off"},
		"without the store: lost with the leader":  {"a/1 9.1-9.2 append 6:1", "", history.Failsafe, "", "1 are missing, 1 after power off"},
		"asynchronous: lost long before the fault": {"a/1 4-5 append 6:1", "", history.Async, "appends kept", "no fault had hit"},
		"asynchronous: lost of the last term":      {"b/2 31-32 append 6:1", "", history.Async, "appends kept", "nobody led after it"},
		"synchronous: lost with the leader":        {"a/1 9.1-9.2 append 6:1", "", history.Sync, "nothing lost, appends kept", "commits waited"},
		"quorum: lost with the leader":             {"a/1 9.1-9.2 append 6:1", "", history.Quorum, "nothing lost, appends kept", "commits waited"},
		"only a part of a transaction is left":     {"a/1 9.1-9.2 append 6:1 append 7:2", "6:1", history.Async, "serializable", "only a part is left"},

		"a session gave up its wait, another one read it, and it is gone": {"a/1 9-12 append 6:1 unknown\n a/1 9.5-9.6 read 6:1", "", "", "", "1 only read what was gone later"},
		"who has read what is gone is left":                               {"a/1 9-12 append 6:1 unknown\n a/1 9.5-9.6 read 6:1 append 7:2", "7:2", "", "serializable", "is gone"},
		"in between something is gone":                                    {"a/1 9-12 append 6:1 unknown\n a/1 9-9.2 append 6:2\n a/1 9.5-9.6 read 6:1,2", "6:2", "", "serializable", "and is [2] in the end"},

		"a replica is behind":         {"a/1 4-5 append 6:1\n b/0 8-8.1 read 6: replica", "6:1", "", "", "1 of 1 reads of replicas lacked what had been acknowledged before, by up to 3.000s"},
		"a replica is not behind":     {"a/1 4-5 append 6:1\n b/0 8-8.1 read 6:1 replica", "6:1", "", "", "0 of 1 reads of replicas"},
		"a replica shows half of one": {"a/1 4-5 append 6:1 append 6:2\n b/0 8-8.1 read 6:1 replica", "6:1,2", "", "serializable", "G1b"},
	} {
		t.Run(name, func(t *testing.T) {
			h := good()
			h.Run.Mode, h.Rounds[0].Standbys = tt.mode, 1
			for line := range strings.SplitSeq(tt.txns, "\n") {
				h.Txns = append(h.Txns, parse(t, line))
			}
			end := h.End.Members["b"]
			end.Lists = map[int][]int64{}
			for _, text := range strings.Fields(tt.left) {
				key, values := list(t, text)
				end.Lists[key] = values
			}
			h.End.Members["b"] = end
			if h.Run.Waits() && tt.want == "" {
				end.Rows = append(end.Rows, [2]int64{5, 5})
			}
			v := Judge(h)
			if have := broken(v); have != tt.want {
				t.Errorf("have broken %q, want %q:\n%s", have, tt.want, v)
			}
			if !strings.Contains(v.String(), tt.says) {
				t.Errorf("the verdict does not say %q:\n%s", tt.says, v)
			}
		})
	}
}

// A store that does one transaction after the other, by chance, is never held to be broken; one transaction that is moved in it, or one value that is
// left out of what it read, always is.
func TestSerialHistories(t *testing.T) {
	for seed := range uint64(20) {
		chance := rand.New(rand.NewPCG(seed, 1))
		h := history.History{Run: history.Run{Members: []string{"a"}}}
		state, next := map[int][]int64{}, int64(0)
		for i := range 200 {
			at := second(float64(i))
			x := history.Txn{Client: i % 4, Member: "a", Timeline: 1, Outcome: history.Done, Sent: at - second(chance.Float64()*3), Ended: at + second(chance.Float64()*3)}
			for range 1 + chance.IntN(4) {
				key := chance.IntN(4)
				if chance.IntN(2) == 0 {
					x.Steps = append(x.Steps, history.Step{Key: key, Found: slices.Clone(state[key])})
					continue
				}
				next++
				state[key] = append(state[key], next)
				x.Steps = append(x.Steps, history.Step{Key: key, Append: next})
			}
			h.Txns = append(h.Txns, x)
		}
		h.End = &history.End{Leader: "a", Members: map[string]history.Copy{"a": {Lists: state}}}
		if c := serializable(h); len(c.Problems) > 0 {
			t.Fatalf("seed %d: %v", seed, c.Problems)
		}
		// The last value of a read that was acknowledged well before is taken away.
		for i := len(h.Txns) - 1; ; i-- {
			s := slices.IndexFunc(h.Txns[i].Steps, func(s history.Step) bool { return s.Append == 0 && len(s.Found) > 0 })
			if s < 0 {
				continue
			}
			found := h.Txns[i].Steps[s].Found
			author := slices.IndexFunc(h.Txns, func(x history.Txn) bool {
				return slices.ContainsFunc(x.Steps, func(s history.Step) bool { return s.Append == found[len(found)-1] })
			})
			if h.Txns[author].Ended >= h.Txns[i].Sent {
				continue
			}
			h.Txns[i].Steps[s].Found = found[:len(found)-1]
			break
		}
		if c := serializable(h); len(c.Problems) == 0 {
			t.Fatalf("seed %d: a read without the value that it had to see goes unnoticed", seed)
		}
	}
}
