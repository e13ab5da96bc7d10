package integration

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/regent-ha/regent/client"
	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/test/integration/harness"
)

// encrypted makes a member's PostgreSQL offer TLS.
func encrypted(t *testing.T) func(*harness.Member, harness.Map) {
	return func(m *harness.Member, config harness.Map) {
		dcstest.NewAuthority(t, m.Dir, "ca").Issue(t, "server")
		parameters := config["postgresql"].(harness.Map)["parameters"].(harness.Map)
		parameters["ssl"], parameters["ssl_cert_file"], parameters["ssl_key_file"] = true, filepath.Join(m.Dir, "server.crt"), filepath.Join(m.Dir, "server.key")
	}
}

// newcomers connect through the proxy all the time, each time anew, and ask where they are.
type newcomers struct {
	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex
	arrived map[int]int // connections by the server's port
	errors  []error     // of connecting
}

func connectAnew(t *testing.T, dsn string) *newcomers {
	n := &newcomers{arrived: map[int]int{}}
	n.ctx, n.stop = context.WithCancel(context.Background())
	t.Cleanup(n.end)
	for range 3 {
		n.work.Go(func() {
			for n.ctx.Err() == nil {
				conn, err := pgx.Connect(n.ctx, dsn)
				if n.ctx.Err() != nil {
					return
				}
				n.mu.Lock()
				if err != nil {
					n.errors = append(n.errors, err)
				}
				n.mu.Unlock()
				if err != nil {
					continue
				}
				var port int
				var recovering bool
				err = conn.QueryRow(n.ctx, "select inet_server_port(), pg_is_in_recovery()").Scan(&port, &recovering)
				_ = conn.Close(n.ctx)
				n.mu.Lock()
				if err == nil { // else the session ended with its primary, as open ones do
					n.arrived[port]++
				}
				if recovering {
					n.errors = append(n.errors, fmt.Errorf("led to a replica, at port %d", port))
				}
				n.mu.Unlock()
			}
		})
	}
	return n
}

func (n *newcomers) end() {
	n.stop()
	n.work.Wait()
}

// reach waits until so many more have got to that member.
func (n *newcomers) reach(t *testing.T, m *harness.Member, more int) {
	t.Helper()
	count := func() int {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.arrived[m.Port]
	}
	want := count() + more
	harness.Eventually(t, harness.Patience, fmt.Sprintf("%d more clients get to %s", more, m.Name), func() bool { return count() >= want })
}

// Through the proxy a switchover is a pause for who connects, and the end for sessions of the old primary. TLS and SCRAM pass through.
func TestProxy(t *testing.T) {
	t.Parallel()
	o := harness.Options{TTL: 2 * harness.Patience, Retry: harness.Patience / 4, LoopWait: harness.Patience / 8, Member: encrypted(t)}
	c := harness.Start(t, o)
	first := c.Healthy(t, harness.Patience)
	second := c.Others(first)[0]
	proxy := c.Proxy(t, harness.Map{"hold": "10min"})

	open, err := pgx.Connect(limited(t), proxy.DSN("require"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close(t.Context())
	var port int
	var encrypted bool
	var method string
	err = open.QueryRow(limited(t), `select inet_server_port(), ssl, (select left(rolpassword, 13) from pg_authid where rolname = 'postgres')
		from pg_stat_ssl where pid = pg_backend_pid()`).Scan(&port, &encrypted, &method)
	if err != nil || port != first.Port || !encrypted || method != "SCRAM-SHA-256" {
		t.Fatalf("have port %d, TLS %t, password of %s, %v; want port %d with TLS and SCRAM", port, encrypted, method, err, first.Port)
	}

	n := connectAnew(t, proxy.DSN("disable"))
	n.reach(t, first, 20)
	if said, err := first.API.Restart(limited(t), client.RestartRequest{}); err != nil {
		t.Fatalf("restart %s: %v %s", first.Name, err, said)
	}
	if _, err := open.Exec(limited(t), "select 1"); err == nil {
		t.Error("have a session that has outlived its PostgreSQL")
	}
	n.reach(t, first, 20)
	if open, err = pgx.Connect(limited(t), proxy.DSN("require")); err != nil {
		t.Fatal(err)
	}
	defer open.Close(t.Context())
	c.Healthy(t, harness.Patience)
	switchover(t, second, first, second.Name)
	n.reach(t, second, 20)
	if _, err := open.Exec(limited(t), "select 1"); err == nil {
		t.Error("have a session with the old primary")
	}
	n.end()
	// Whoever connects gets a second to get through, which a machine may be too busy for. Then proxy or agent say so.
	late := proxy.Logged("clients are still connecting") || first.Logged("proxies have not confirmed in time")
	for _, err := range n.errors {
		if late {
			t.Logf("connect: %v; but the machine was too busy", err)
		} else {
			t.Errorf("connect: %v", err)
		}
	}
	t.Logf("clients got to %v", n.arrived)
}
