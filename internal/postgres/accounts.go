package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// quiet keeps passwords out of the server's log and statistics. The settings of extensions that are not loaded do
// no harm. The commits wait for no standby already (L57, ha.md 2.26).
const quiet = `SET log_statement TO none; SET log_min_duration_statement TO -1; SET log_min_error_statement TO panic;
SET "pg_stat_statements.track_utility" TO off; SET "pgaudit.log" TO none`

// rewindFunctions are what pg_rewind calls on the source server (PostgreSQL documentation, "pg_rewind", Notes).
var rewindFunctions = []string{"pg_ls_dir(text, boolean, boolean)", "pg_stat_file(text, boolean)", "pg_read_binary_file(text)",
	"pg_read_binary_file(text, bigint, bigint, boolean)"}

// SetupAccounts creates, or alters, the roles of the three accounts and grants what pg_rewind needs. The superuser's
// role is touched only if it has a name and a password. The server must be a primary. Doing it again is harmless.
// config.md 5.12.
func (p *Instance) SetupAccounts(ctx context.Context) error {
	s := p.Settings()
	err := p.withConnection(ctx, func(conn *pgconn.PgConn) error {
		if _, err := conn.Exec(ctx, quiet).ReadAll(); err != nil {
			return fmt.Errorf("keep the statements out of the log: %w", err)
		}
		if a := s.Superuser; a.Username != "" && a.Password != "" {
			if err := setupRole(ctx, conn, a, "SUPERUSER"); err != nil {
				return err
			}
		}
		if a := s.Replication; a.Username != "" {
			if err := setupRole(ctx, conn, a, "REPLICATION"); err != nil {
				return err
			}
		}
		if a := s.Rewind; a.Username != "" && a.Username != s.Superuser.Username {
			if err := setupRole(ctx, conn, a, ""); err != nil {
				return err
			}
			for _, f := range rewindFunctions {
				if _, err := query(ctx, conn, "GRANT EXECUTE ON FUNCTION pg_catalog."+f+" TO "+quoteIdent(a.Username)); err != nil {
					return fmt.Errorf("grant %s to role %s: %w", f, a.Username, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("set up accounts: %w", err)
	}
	return nil
}

// setupRole creates or alters one role. An error names the role and the server's words; the server quotes no
// statement text in them.
func setupRole(ctx context.Context, conn *pgconn.PgConn, a Account, privilege string) error {
	if strings.ContainsRune(a.Password.Reveal(), 0) {
		return fmt.Errorf("set up role %s: %w", a.Username, errors.New("the password has a NUL character, PostgreSQL knows none"))
	}
	known, err := query(ctx, conn, "SELECT FROM pg_roles WHERE rolname = $1", a.Username)
	if err != nil {
		return fmt.Errorf("look up role %s: %w", a.Username, err)
	}
	verb := "CREATE"
	if len(known) > 0 {
		verb = "ALTER"
	}
	sql := verb + " ROLE " + quoteIdent(a.Username) + " WITH LOGIN " + privilege
	if a.Password != "" {
		sql += " PASSWORD " + quoteLiteral(a.Password.Reveal())
	}
	if _, err := query(ctx, conn, sql); err != nil {
		return fmt.Errorf("set up role %s: %w", a.Username, err)
	}
	return nil
}
