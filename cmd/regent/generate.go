package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/ctl"
)

// generateLimit bounds the look at a running server.
const generateLimit = 30 * time.Second

// generate is --generate-sample-config and, with a server to look at, --generate-config: it writes a configuration to path, or to
// stdout (config.md 7.2, 7.3).
func generate(ctx context.Context, running bool, dsn, path string, environ []string, stdout, stderr io.Writer) int {
	doc := config.Sample(hostName(), hostAddress())
	from, _, problems := config.FromEnviron(environ)
	for _, p := range problems {
		fmt.Fprintln(stderr, p)
	}
	config.Merge(doc, from)
	var err error
	if running {
		err = lookAtServer(ctx, doc, dsn)
	}
	if err == nil {
		err = writeGenerated(path, config.Generated(doc), stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// writeGenerated makes the directories of a file, too. The file may hold passwords, so it is its owner's only.
func writeGenerated(path string, text []byte, stdout io.Writer) error {
	if path == "" {
		_, err := stdout.Write(text)
		return err
	}
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the generated configuration: %w", err)
	}
	return nil
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return config.Fixme
	}
	return name
}

// hostAddress is the first address of this host's name, IPv4 rather than IPv6.
func hostAddress() string {
	addresses, err := net.LookupHost(hostName())
	if err != nil || len(addresses) == 0 {
		return config.Fixme
	}
	for _, a := range addresses {
		if ip := net.ParseIP(a); ip != nil && ip.To4() != nil {
			return a
		}
	}
	return "[" + addresses[0] + "]"
}

// lookAtServer fills a configuration with what a running server says about itself.
func lookAtServer(ctx context.Context, doc *config.Map, dsn string) error {
	ctx, cancel := context.WithTimeout(ctx, generateLimit)
	defer cancel()
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return fmt.Errorf("read the connection string: %w", err)
	}
	if c.User == "" {
		c.User = "postgres"
	}
	c.RuntimeParams["search_path"] = "pg_catalog" // nobody's functions but PostgreSQL's
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return fmt.Errorf("connect to the running server: %w; give --dsn, or PGHOST, PGPORT, PGUSER and PGPASSWORD", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	s := &server{conn: conn, ctx: ctx}
	if s.text("SELECT current_setting('is_superuser')") != "on" {
		return errors.Join(s.err, fmt.Errorf("look at the server: %s is no superuser, and others do not see all settings", c.User))
	}
	if scope := s.text("SELECT current_setting('cluster_name')"); scope != "" {
		doc.Set("scope", scope)
	}
	pg := config.NewMap()
	dataDir := s.text("SELECT current_setting('data_directory')")
	host, port := hostAddress(), s.text("SELECT current_setting('port')")
	pg.Set("data_dir", dataDir)
	pg.Set("listen", s.text("SELECT current_setting('listen_addresses')")+":"+port)
	if !strings.HasPrefix(c.Host, "/") {
		port = strconv.Itoa(int(c.Port))
	}
	pg.Set("connect_address", host+":"+port)
	pg.Set("bin_dir", s.binDir())
	if dir := filepath.Dir(s.text("SELECT current_setting('config_file')")); dir != dataDir {
		pg.Set("config_dir", dir)
	}
	superuser := config.NewMap()
	superuser.Set("username", c.User)
	superuser.Set("password", c.Password)
	replication := config.NewMap()
	replication.Set("username", config.Fixme)
	replication.Set("password", config.Fixme)
	accounts := config.NewMap()
	accounts.Set("superuser", superuser)
	accounts.Set("replication", replication)
	pg.Set("authentication", accounts)
	local, shared := s.parameters()
	pg.Set("parameters", local)
	for key, name := range map[string]string{"pg_hba": "hba_file", "pg_ident": "ident_file"} {
		if lines := s.lines(name); len(lines) > 0 {
			pg.Set(key, lines)
		}
	}
	doc.Set("postgresql", pg)
	dynamic := doc.Map("bootstrap", "dcs", "postgresql")
	dynamic.Delete("use_pg_rewind") // whether they want it is theirs to say
	dynamic.Set("parameters", shared)
	return s.err
}

// server answers questions about a running server; the first error stays.
type server struct {
	ctx  context.Context
	conn *pgx.Conn
	err  error
}

func (s *server) text(sql string, args ...any) (out string) {
	if s.err == nil {
		if err := s.conn.QueryRow(s.ctx, sql, args...).Scan(&out); err != nil {
			s.err = fmt.Errorf("look at the server: %w", err)
		}
	}
	return out
}

// localParameters hold paths and commands, which may differ between machines.
const localParameters = `'archive_command', 'restore_command', 'archive_cleanup_command', 'recovery_end_command', 'ssl_passphrase_command', 'hba_file', 'ident_file'`

// parameters are the settings that somebody made, and the ones that the agent manages; those that belong to one machine apart.
func (s *server) parameters() (local, shared *config.Map) {
	local, shared = config.NewMap(), config.NewMap()
	if s.err != nil {
		return local, shared
	}
	rows, err := s.conn.Query(s.ctx, `SELECT name, current_setting(name), name IN (`+localParameters+`), source,
	name IN ('hba_file', 'ident_file') AND setting = current_setting('data_directory') || '/pg_' || replace(name, '_file', '.conf')
FROM pg_settings WHERE context <> 'internal' ORDER BY lower(name)`)
	if err != nil {
		s.err = fmt.Errorf("read pg_settings: %w", err)
		return local, shared
	}
	var name, value, source string
	var isLocal, usual bool
	_, err = pgx.ForEachRow(rows, []any{&name, &value, &isLocal, &source, &usual}, func() error {
		written := source == "configuration file" || source == "command line" || source == "environment variable"
		switch {
		case name == "cluster_name" || name == "listen_addresses" || name == "port" || name == "config_file" || name == "data_directory" || usual:
		case isLocal && (written || strings.HasSuffix(name, "_file")):
			local.Set(name, value)
		case !isLocal && (written || config.IsManaged(name)):
			shared.Set(name, value)
		}
		return nil
	})
	if err != nil {
		s.err = fmt.Errorf("read pg_settings: %w", err)
	}
	return local, shared
}

// lines are the lines of a file of the server that say something.
func (s *server) lines(setting string) []any {
	var out []any
	for line := range strings.Lines(s.text("SELECT pg_read_file(current_setting($1))", setting)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
	}
	return out
}

// binDir is where the postmaster's program is; empty when we may not see that.
func (s *server) binDir() string {
	pid, _, _ := strings.Cut(s.text("SELECT pg_read_file('postmaster.pid')"), "\n")
	program, err := os.Readlink(filepath.Join("/proc", strings.TrimSpace(pid), "exe"))
	if err != nil || filepath.Base(program) != "postgres" {
		return ""
	}
	return filepath.Dir(program)
}

func generateCommand() *cobra.Command {
	var dsn string
	var sample bool
	c := &cobra.Command{
		Use: "generate [OPTIONS] [FILE]", Short: "Write a configuration file from a running PostgreSQL, or a sample", Args: ctl.Arguments, DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			path := ""
			if len(args) > 0 {
				path = args[0]
			}
			return exit(generate(c.Context(), !sample, dsn, path, os.Environ(), os.Stdout, os.Stderr))
		},
	}
	c.Flags().StringVar(&dsn, "dsn", "", "how to connect to the running server; default: PGHOST, PGPORT, PGUSER, PGPASSWORD and ~/.pgpass")
	c.Flags().BoolVar(&sample, "sample", false, "look at no server")
	return c
}
