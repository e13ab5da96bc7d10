package integration

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/regent-ha/regent/test/integration/harness"
)

// The disk of the leader's data is full. First PostgreSQL refuses what makes a table grow; it runs, reads and small writes go
// on, and the agent leaves it alone. When it cannot begin a new WAL file either, it panics and cannot recover, as that takes room,
// too. The agent sees that it does not start and lets the other member lead. The first one comes back when there is room.
func TestFullDisk(t *testing.T) {
	disk := harness.SmallDisk(t)
	t.Parallel()
	small, err := os.MkdirTemp(disk, "m0-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(small) })
	c := harness.New(t, harness.Options{
		Dynamic: harness.Map{"postgresql": harness.Map{
			"use_pg_rewind": true, "parameters": harness.Map{"max_connections": 50, "shared_buffers": "16MB", "max_wal_size": "48MB", "min_wal_size": "32MB", "wal_keep_size": "16MB"},
		}},
		Member: func(m *harness.Member, config harness.Map) {
			if m.Name == "m0" {
				m.Data = filepath.Join(small, "data")
				config["postgresql"].(harness.Map)["data_dir"] = m.Data
			}
		},
	})
	for i, m := range c.Members {
		m.Start(t)
		if i == 0 {
			harness.Eventually(t, harness.Patience, "m0 is the primary", func() bool { return m.Ready("primary") })
		}
	}
	leader := c.Healthy(t, harness.Patience)
	other, w := c.Others(leader)[0], c.Write(t)
	ballast := filepath.Join(small, "ballast")
	fill(t, ballast)
	before := leader.Postmaster()
	_, err = leader.TrySQL("create table big as select repeat(md5(i::text), 200) as text from generate_series(1, 30000) i")
	if err == nil {
		t.Fatal("the disk was not full")
	}
	t.Logf("a table that grows: %v", err)
	if now := c.Healthy(t, harness.Patience); now != leader || leader.Postmaster() != before {
		t.Errorf("have leader %s, want %s with the same postmaster: its disk is full, but it runs", now.Name, leader.Name)
	}
	reached, full := w.Reached(t, leader, other), time.Now()
	harness.Eventually(t, harness.Patience, "there is no room for WAL", func() bool {
		_, err = leader.TrySQL("select pg_logical_emit_message(true, '', repeat('x', 4000000))") // WAL and nothing else
		return err != nil && !pgconn.Timeout(err)
	})
	t.Logf("no room for WAL: %v", err)
	w.AdvanceOn(t, other, 2*harness.Patience)
	harness.Quick(t, "the other member writes after the disk was full", harness.Since(full), 30*time.Second)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if now := c.Healthy(t, 2*harness.Patience); now != other {
		t.Errorf("have leader %s, want %s", now.Name, other.Name)
	}
	w.Audit(t, reached.Since()) // rows that the crashed leader had not sent
}

// fill writes until nothing fits any more.
func fill(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, zeros{}); err == nil {
		t.Fatal("the disk has no end")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
