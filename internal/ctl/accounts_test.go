package ctl

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

func TestDoctorTriesTheAccounts(t *testing.T) {
	server := pgtest.New(t)
	hba := "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(server.Dir, "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		t.Fatal(err)
	}
	server.Start(t)
	server.SQL(t, `CREATE ROLE rep LOGIN REPLICATION PASSWORD 'it''s \'; CREATE ROLE plain LOGIN PASSWORD 'x'; CREATE ROLE rew LOGIN PASSWORD 'x';
GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) TO rew`)
	account := func(user, password string) config.Account {
		return config.Account{Username: user, Password: config.NewSecret(password)}
	}
	for name, c := range map[string]struct {
		replication, rewind config.Account
		superuser           string
		noRewind            bool
		want                []string // verdict, account, words
	}{
		"as it should be":         {account("rep", `it's \`), account("rew", "x"), "postgres", false, []string{"ok rep may stream from m0", "ok rew may rewind from m0"}},
		"the superuser rewinds":   {account("rep", `it's \`), config.Account{}, "postgres", false, []string{"ok rep", "ok postgres may rewind"}},
		"nobody rewinds":          {account("rep", `it's \`), account("plain", "x"), "postgres", true, []string{"ok rep"}},
		"wrong password":          {account("rep", "hidden"), account("rew", "hidden"), "postgres", false, []string{"problem rep cannot stream from m0: failed to connect", "warning rew cannot rewind from m0: failed"}},
		"without the privileges":  {account("plain", "x"), account("plain", "x"), "postgres", false, []string{"problem plain cannot stream", "warning plain may not call pg_ls_dir(text, boolean, boolean), pg_stat_file"}},
		"a role that nobody made": {account("ghost", "x"), account("ghost", "x"), "postgres", false, []string{"problem ghost", "warning ghost"}},
	} {
		t.Run(name, func(t *testing.T) {
			member := &config.Settings{Postgres: config.Postgres{
				Database: "postgres", Replication: c.replication, Rewind: c.rewind, Superuser: account(c.superuser, ""), UsePgRewind: !c.noRewind}}
			m := cluster.Member{Name: "m0", ConnURL: fmt.Sprintf("postgres://127.0.0.1:%d/postgres", server.Port)}
			found := target{site: &Site{Member: member}, part: part{nil, &cluster.Snapshot{Members: []cluster.Member{m}, Leader: cluster.Leader{Name: "m0"}}}}.accountFindings(context.Background())
			if len(found) != len(c.want) {
				t.Fatalf("have %v, want %d findings", found, len(c.want))
			}
			for i, f := range found {
				have := f.Verdict + " " + f.Subject + " " + f.Found
				if !strings.HasPrefix(have, c.want[i]) || (f.Verdict != fine) != (f.Advice != "") {
					t.Errorf("have %s (%s), want %s", have, f.Advice, c.want[i])
				}
				if strings.Contains(have+f.Advice, "hidden") {
					t.Errorf("the password shows: %s", have)
				}
			}
		})
	}
}
