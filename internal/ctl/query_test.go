package ctl

import (
	"fmt"
	"testing"

	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestQueriesReplay(t *testing.T) {
	server := pgtest.New(t)
	server.Start(t)
	const root = "/service/demo/"
	member := fmt.Sprintf(`{"conn_url":"postgres://127.0.0.1:%d/postgres","state":"running","role":"primary"}`, server.Port)
	store := newFakeStore(map[string]string{root + "leader": "node1", root + "members/node1": member, root + "members/node2": member})
	for _, v := range vectors(t, "query/*.txt") {
		stdout, stderr, exit := play(t, v, &Site{Scope: "demo", Open: store.open})
		compare(t, v, stdout, stderr, exit)
	}
	v := vector{name: "a primary is no replica", args: []string{"query", "-r", "replica", "-c", "SELECT 1", "-U", "postgres"}}
	v.stdout = recordedAt.Format("2006-01-02 15:04:05") + "\tNo connection to role 'replica' is available\n"
	stdout, stderr, exit := play(t, v, &Site{Scope: "demo", Open: store.open})
	compare(t, v, stdout, stderr, exit)
	v = vector{name: "a password is asked for", args: []string{"query", "--password", "-c", "SELECT 1 AS one", "-U", "postgres", "-d", "postgres"}, stdin: "secret\n"}
	v.stdout = "Password: one\n1\n"
	stdout, stderr, exit = play(t, v, &Site{Scope: "demo", Open: store.open})
	compare(t, v, stdout, stderr, exit)
}
