package ctl

import (
	"strings"
	"testing"
)

const whyReport = `{"member":"node2","at":"2026-11-22T22:31:16Z","leader":"node1","verdict":"node1 holds the lock",
"risk":{"heir":"node3","bytes":160,"synced":false,"detail":"node3 would take over, 160 bytes of WAL would be lost"},
"durability":{"survive":"one-site","met":false,"detail":"commits wait for another site"},
"gates":[{"name":"lag","value":"3 MB","limit":"1 MB","passed":false},{"name":"peers","value":"","limit":"","passed":false,"unknown":true}],
"decisions":[{"at":"2026-11-22T22:31:10Z","reason":"lag-too-high","detail":"3 MB behind","actions":["wait"],"ruled_out":["acquire-leader: too far behind"],"errors":["ask node3: timeout"]}]}`

func whyScene(t *testing.T) *scene {
	s := replay(t, readVector(t, "list/idle-pretty.txt"))
	s.members.reply = func(_, address, _ string) (int, string, error) {
		if strings.HasPrefix(address, "http://node2.test:8008/why") {
			return 200, whyReport, nil
		}
		return 404, "", nil
	}
	return s
}

func TestWhyShowsGatesAndDecisions(t *testing.T) {
	s := whyScene(t)
	stdout, stderr, exit := play(t, vector{args: []string{"why", "node2", "--at", "2026-11-22T22:31:16Z", "-n", "1"}}, s.site)
	want := `node2, at 2026-11-22 22:31:16: node1 holds the lock
If it were lost now: node3 would take over, 160 bytes of WAL would be lost
Durability one-site: commits wait for another site
+-------+-------+-------+---------+
| Gate  | Value | Limit | Verdict |
+-------+-------+-------+---------+
| lag   | 3 MB  | 1 MB  | FAILED  |
| peers |       |       | unknown |
+-------+-------+-------+---------+
2026-11-22 22:31:10.000 lag-too-high: 3 MB behind
  did: wait
  ruled out: acquire-leader: too far behind
  went wrong: ask node3: timeout
`
	if stdout != want || exit != 0 {
		t.Errorf("exit %d, %s, have\n%s\nwant\n%s", exit, stderr, stdout, want)
	}
	if have, want := s.members.asked, "GET http://node2.test:8008/why?at=2026-11-22T22%3A31%3A16%2B00%3A00&limit=1"; len(have) != 1 || have[0] != want {
		t.Errorf("have %q, want %q", have, want)
	}
}

func TestWhyOfAPatroniMemberSaysSo(t *testing.T) {
	s := whyScene(t)
	stdout, _, exit := play(t, vector{args: []string{"why", "node1"}}, s.site)
	if want := "node1, the leader: no explanation: it does not explain itself: only Regent's members do\n"; stdout != want || exit != 0 {
		t.Errorf("exit %d, have %q, want %q", exit, stdout, want)
	}
	stdout, _, _ = play(t, vector{args: []string{"why", "node1", "-f", "json"}}, s.site)
	if want := `[{"error":"it does not explain itself: only Regent's members do","member":"node1"}]` + "\n"; stdout != want {
		t.Errorf("have %q, want %q", stdout, want)
	}
}

func TestWhyAsksEveryMember(t *testing.T) {
	s := whyScene(t)
	stdout, _, exit := play(t, vector{args: []string{"why"}}, s.site)
	for _, want := range []string{"node1, the leader: no explanation", "node2, at 2026-11-22", "node3: no explanation"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("have %q, want %q in it", stdout, want)
		}
	}
	if len(s.members.asked) != 3 || exit != 0 {
		t.Errorf("exit %d, asked %q", exit, s.members.asked)
	}
}
