package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/regent-ha/regent/internal/config"
)

// rewindFunctions are what pg_rewind calls on its source.
const rewindFunctions = `SELECT f FROM unnest(ARRAY['pg_ls_dir(text, boolean, boolean)', 'pg_stat_file(text, boolean)', 'pg_read_binary_file(text)',
'pg_read_binary_file(text, bigint, bigint, boolean)']) f WHERE NOT has_function_privilege('pg_catalog.' || f, 'EXECUTE')`

// accountFindings log in at the leader from here as this machine's member would: to stream from it, and to be rewound from it.
func (t target) accountFindings(ctx context.Context) []Finding {
	leader, ok := t.Member(t.Leader.Name)
	if !ok || t.site.Member == nil {
		return nil
	}
	host, port, ok := leader.HostPort()
	if !ok {
		return nil
	}
	pg := &t.site.Member.Postgres
	list := []Finding{streamingFinding(leader.Name, pg.Replication.Username, canStream(ctx, pg.Replication, host, port))}
	if !pg.UsePgRewind {
		return list
	}
	rewind := pg.Rewind
	if rewind.Username == "" {
		rewind = pg.Superuser
	}
	missing, err := cannotCall(ctx, rewind, host, port, pg.Database)
	return append(list, rewindFinding(leader.Name, rewind.Username, missing, err))
}

func streamingFinding(leader, user string, refused error) Finding {
	f := Finding{Check: "account", Subject: user, Verdict: fine, Found: "may stream from " + leader}
	if refused != nil {
		f.Verdict, f.Found = problem, fmt.Sprintf("cannot stream from %s: %v", leader, refused)
		f.Advice = "the role needs LOGIN and REPLICATION, the password of postgresql.authentication.replication, and a line for database replication in pg_hba.conf"
	}
	return f
}

func rewindFinding(leader, user string, missing []string, refused error) Finding {
	f := Finding{Check: "account", Subject: user, Verdict: fine, Found: "may rewind from " + leader}
	switch {
	case refused != nil:
		f.Verdict, f.Found = warning, fmt.Sprintf("cannot rewind from %s: %v", leader, refused)
		f.Advice = "a former leader that has diverged would have to be built anew: pg_hba.conf must admit the role to the database, with the password of postgresql.authentication"
	case len(missing) > 0:
		f.Verdict, f.Found = warning, "may not call "+strings.Join(missing, ", ")+", which pg_rewind needs"
		f.Advice = "GRANT EXECUTE ON FUNCTION pg_catalog." + strings.Join(missing, ", pg_catalog.") + " TO " + user
	}
	return f
}

func canStream(ctx context.Context, a config.Account, host string, port int) error {
	conn, err := loginAs(ctx, a, host, port, "", "replication")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	return err
}

// cannotCall returns the functions of pg_rewind that the account may not call.
func cannotCall(ctx context.Context, a config.Account, host string, port int, database string) (missing []string, err error) {
	conn, err := loginAs(ctx, a, host, port, database, "")
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	results, err := conn.Exec(ctx, rewindFunctions).ReadAll()
	if err != nil {
		return nil, err
	}
	for _, r := range results[0].Rows {
		missing = append(missing, string(r[0]))
	}
	return missing, nil
}

// loginAs connects as one of the configuration's accounts.
func loginAs(ctx context.Context, a config.Account, host string, port int, database, replication string) (*pgconn.PgConn, error) {
	var dsn strings.Builder
	for _, kv := range [][2]string{{"host", host}, {"port", fmt.Sprint(port)}, {"user", a.Username}, {"dbname", database}, {"sslmode", a.SSLMode},
		{"sslcert", a.SSLCert}, {"sslkey", a.SSLKey}, {"sslpassword", a.SSLPassword.Reveal()}, {"sslrootcert", a.SSLRootCert}} {
		if kv[1] != "" {
			fmt.Fprintf(&dsn, "%s='%s' ", kv[0], strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(kv[1]))
		}
	}
	c, err := pgconn.ParseConfig(dsn.String())
	if err != nil {
		return nil, errors.New("its options cannot be used; look at postgresql.authentication") // the cause may quote a password
	}
	c.Password, c.ConnectTimeout = a.Password.Reveal(), 5*time.Second
	if replication != "" {
		c.RuntimeParams["replication"] = "true"
	} else {
		c.RuntimeParams["search_path"] = "pg_catalog" // nobody's functions but PostgreSQL's
	}
	c.RuntimeParams["application_name"] = "regent doctor"
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), "\n\t", " "))
	}
	return conn, nil
}
