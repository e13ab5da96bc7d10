package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/regent-ha/regent/internal/cluster"
)

// db is what is kept for talking to the running postmaster, and what is remembered about it.
type db struct {
	heartbeat session // observation and short commands
	restapi   session // the status endpoint's own

	mu       sync.Mutex
	seen     seen
	recovery *recovery // written last; nil: not by this process
	sync     *string   // synchronous_standby_names as set by SetSyncNames
	checked  checkedParameters

	callbacks callbacks
}

// Names of our connections, as they show in pg_stat_activity (config.md 2.6).
const (
	appHeartbeat = "Patroni heartbeat"
	appRestapi   = "Patroni restapi"
)

// statementTimeout bounds the statements of kept connections on the server's side; the client's deadline is the caller's ctx.
const statementTimeout = 2 * time.Second

// session is one kept connection to the local server. It is opened on demand, and given up after any
// error that is not the server's answer to a statement.
type session struct {
	turn chan struct{} // holds one token while nobody uses the connection
	once sync.Once
	conn *pgconn.PgConn
	pid  int // the postmaster it was opened to
}

// take waits for the connection to be free, at most until ctx ends.
func (s *session) take(ctx context.Context) error {
	s.once.Do(func() { s.turn = make(chan struct{}, 1); s.turn <- struct{}{} })
	select {
	case <-s.turn:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the connection to be free: %w", context.Cause(ctx))
	}
}

func (s *session) give() { s.turn <- struct{}{} }

// drop closes the connection; the caller has taken it. A stopped server must not hold us up.
func (s *session) drop() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = s.conn.Close(ctx)
	s.conn = nil
}

// use runs f on the kept connection. When that connection turns out to be broken or does not answer within
// half of the time left, f runs once more on a fresh one; f must therefore be repeatable.
func (p *Instance) use(ctx context.Context, s *session, app string, f func(context.Context, *pgconn.PgConn) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 3*statementTimeout)
		defer cancel()
	}
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.give()
	pm := p.postmaster()
	if pm == nil || pm.single {
		s.drop()
		return errNotRunning
	}
	if s.conn != nil && s.pid != pm.pid {
		s.drop()
	}
	if s.conn != nil && !s.conn.IsClosed() {
		half, cancel := half(ctx)
		err := f(half, s.conn)
		cancel()
		if err == nil || answered(err) {
			return err
		}
		if ctx.Err() != nil {
			s.drop()
			return err
		}
	}
	s.drop()
	conn, err := p.connect(ctx, pm, p.Settings().Superuser, map[string]string{
		"application_name":  app,
		"statement_timeout": strconv.FormatInt(statementTimeout.Milliseconds(), 10), "pg_stat_statements.track": "none",
	})
	if err != nil {
		return err
	}
	s.conn, s.pid = conn, pm.pid
	if err := f(ctx, conn); err != nil {
		if !answered(err) {
			s.drop()
		}
		return err
	}
	return nil
}

// half leaves as much time for another try.
func half(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// answered says whether an error is the server's answer to a statement, after which the connection is still good.
func answered(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	return e.Severity != "FATAL" && e.Severity != "PANIC" && e.SeverityUnlocalized != "FATAL" && e.SeverityUnlocalized != "PANIC"
}

var errNotRunning = errors.New("PostgreSQL is not running")

// connect opens a connection to the local server with the given run-time parameters on top of our own.
func (p *Instance) connect(ctx context.Context, pm *postmaster, a Account, parameters map[string]string) (*pgconn.PgConn, error) {
	host, port := p.localAddress(pm)
	return p.connectTo(ctx, host, port, a, parameters)
}

// connectTo opens a connection to any server. The error names the server and the user, never the password.
func (p *Instance) connectTo(ctx context.Context, host string, port int, a Account, parameters map[string]string) (*pgconn.PgConn, error) {
	cfg, err := p.clientConfig(host, port, a, parameters)
	if err != nil {
		return nil, err
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL at %s as %s: %w", hostPort(host, port), a.Username, refusedAccount(err))
	}
	return conn, nil
}

// refusedAccount says what to do about an account that a server does not let in.
func refusedAccount(err error) error {
	if err == nil || !strings.Contains(err.Error(), "authentication failed") && !strings.Contains(err.Error(), "pg_hba.conf") {
		return err
	}
	return fmt.Errorf("%w; check user name and password in postgresql.authentication, which are the same on every member, and postgresql.pg_hba", err)
}

func hostPort(host string, port int) string { return host + ":" + strconv.Itoa(port) }

// clientOptions are the connection options of an account that our client knows; libpq has more.
var clientOptions = []string{"sslmode", "sslcert", "sslkey", "sslrootcert", "sslpassword", "sslnegotiation", "channel_binding"}

func (p *Instance) clientConfig(host string, port int, a Account, parameters map[string]string) (*pgconn.Config, error) {
	s := p.Settings()
	session := "any"
	if strings.Contains(host, ",") { // of several hosts of a remote cluster, the primary
		session = "read-write"
	}
	dsn := keywords{{"host", host}, {"port", strconv.Itoa(port)}, {"user", a.Username}, {"dbname", s.database()},
		{"target_session_attrs", session}, {"krbsrvname", s.KrbSrvName}, {"connect_timeout", "3"}}
	for _, name := range clientOptions {
		dsn = append(dsn, keyword{name, a.Options[name]})
	}
	cfg, err := pgconn.ParseConfig(dsn.String())
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL at %s as %s: %w", hostPort(host, port), a.Username, err)
	}
	if a.Password != "" {
		cfg.Password = a.Password.Reveal()
	}
	cfg.RuntimeParams["search_path"] = "pg_catalog"
	cfg.RuntimeParams["client_encoding"] = "UTF8"
	maps.Copy(cfg.RuntimeParams, parameters)
	if parameters["replication"] == "true" { // a physical walsender takes no database
		delete(cfg.RuntimeParams, "search_path")
		cfg.Database = "replication"
	}
	return cfg, nil
}

func (s *Settings) database() string {
	if s.Database == "" {
		return "postgres"
	}
	return s.Database
}

// localAddress is where the local server listens for us: the port and socket directory of the running postmaster,
// which differ from the settings while these wait for a restart (config.md 2.6).
func (p *Instance) localAddress(pm *postmaster) (host string, port int) {
	s := p.Settings()
	port = s.Port
	if pm != nil && pm.port != 0 {
		port = pm.port
	}
	if !s.UseUnixSocket {
		return s.localHost(), port
	}
	if pm != nil && pm.socketDir != "" {
		return pm.socketDir, port
	}
	dirs, set := s.Parameters["unix_socket_directories"]
	if !set {
		dirs = "/var/run/postgresql,/tmp" // the distributions' default and PostgreSQL's own
	}
	for dir := range strings.SplitSeq(dirs, ",") {
		dir = strings.Trim(strings.TrimSpace(dir), `"`)
		if !filepath.IsAbs(dir) {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, ".s.PGSQL."+strconv.Itoa(port))); err == nil || set {
			return dir, port
		}
	}
	return s.localHost(), port
}

// localHost is the host of local TCP connections.
func (s *Settings) localHost() string {
	hosts := strings.Split(s.ListenHosts, ",")
	for i, h := range hosts {
		hosts[i] = strings.TrimSpace(h)
		if slices.Contains([]string{"*", "localhost", "0.0.0.0", "127.0.0.1", "::"}, hosts[i]) {
			return "localhost"
		}
	}
	if hosts[0] == "" {
		return "localhost"
	}
	return hosts[0]
}

// withConnection runs f on a fresh superuser connection without statement timeout, whose commits wait for no
// standby: statements of our own must not hang because a synchronous standby is missing (L57).
func (p *Instance) withConnection(ctx context.Context, f func(*pgconn.PgConn) error) error {
	pm := p.postmaster()
	if pm == nil || pm.single {
		return errNotRunning
	}
	conn, err := p.connect(ctx, pm, p.Settings().Superuser, map[string]string{
		"application_name": appHeartbeat, "statement_timeout": "0", "synchronous_commit": "local",
	})
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 100*time.Millisecond)
		defer cancel()
		_ = conn.Close(closing)
	}()
	return f(conn)
}

// Row is one row of a result as text; nil stands for NULL.
type Row []*string

// At returns column i, empty for NULL.
func (r Row) At(i int) string {
	if i >= len(r) || r[i] == nil {
		return ""
	}
	return *r[i]
}

// query runs one statement with text arguments $1, $2, ... and returns its rows.
func query(ctx context.Context, conn *pgconn.PgConn, sql string, args ...string) ([]Row, error) {
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = []byte(a)
	}
	return rows(conn.ExecParams(ctx, sql, values, nil, nil, nil).Read())
}

func rows(r *pgconn.Result) ([]Row, error) {
	if r.Err != nil {
		return nil, r.Err
	}
	out := make([]Row, len(r.Rows))
	for i, row := range r.Rows {
		out[i] = make(Row, len(row))
		for j, v := range row {
			if v != nil {
				text := string(v)
				out[i][j] = &text
			}
		}
	}
	return out, nil
}

// Query runs one statement with text arguments $1, $2, ... for the status endpoint, on a connection of its
// own: 2 s statement timeout, autocommit. It may be repeated once on a fresh connection, so it must only read.
func (p *Instance) Query(ctx context.Context, sql string, args ...string) (result []Row, err error) {
	err = p.use(ctx, &p.db.restapi, appRestapi, func(ctx context.Context, conn *pgconn.PgConn) error {
		result, err = query(ctx, conn, sql, args...)
		return err
	})
	return result, err
}

// query is Query on the loop's connection.
func (p *Instance) query(ctx context.Context, sql string, args ...string) (result []Row, err error) {
	err = p.use(ctx, &p.db.heartbeat, appHeartbeat, func(ctx context.Context, conn *pgconn.PgConn) error {
		result, err = query(ctx, conn, sql, args...)
		return err
	})
	return result, err
}

// Checkpoint runs CHECKPOINT; it takes as long as it takes, or until ctx ends.
func (p *Instance) Checkpoint(ctx context.Context) error {
	return p.run(ctx, "run CHECKPOINT", "CHECKPOINT")
}

// ResumeReplay resumes a paused replay of a standby; one that is not paused is no error.
func (p *Instance) ResumeReplay(ctx context.Context) error {
	return p.run(ctx, "resume replay", "SELECT pg_wal_replay_resume() WHERE pg_is_in_recovery()")
}

func (p *Instance) run(ctx context.Context, what, sql string) error {
	err := p.withConnection(ctx, func(conn *pgconn.PgConn) error {
		_, err := query(ctx, conn, sql)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// identify asks the local server over a replication connection for the timeline that it replays or writes.
func (p *Instance) identify(ctx context.Context, pm *postmaster) (cluster.Timeline, error) {
	host, port := p.localAddress(pm)
	if s := p.Settings(); s.UseUnixSocket != s.UseUnixSocketRepl {
		if host = s.localHost(); s.UseUnixSocketRepl && pm.socketDir != "" {
			host = pm.socketDir
		}
	}
	conn, err := p.connectTo(ctx, host, port, p.Settings().Replication, map[string]string{"replication": "true", "application_name": appHeartbeat})
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	results, err := conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err != nil {
		return 0, err
	}
	if len(results) == 0 || len(results[0].Rows) == 0 || len(results[0].Rows[0]) < 2 {
		return 0, errors.New("IDENTIFY_SYSTEM: have no row, want one")
	}
	n, err := strconv.ParseUint(string(results[0].Rows[0][1]), 10, 32)
	return cluster.Timeline(n), err
}

// Close gives the connections back and ends running callbacks. The server goes on.
func (p *Instance) Close() {
	p.db.callbacks.close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	p.disconnect(ctx)
}

// keyword is one keyword=value pair of a libpq connection string.
type keyword struct{ name, value string }

type keywords []keyword

// String renders a connection string; pairs without value are left out.
func (k keywords) String() string {
	var out []string
	for _, kv := range k {
		if kv.value != "" {
			out = append(out, kv.name+"="+escapeKeyword(kv.value))
		}
	}
	return strings.Join(out, " ")
}

var keywordEscaper = strings.NewReplacer(`\`, `\\`, `'`, `\'`, " ", `\ `)

func escapeKeyword(v string) string { return keywordEscaper.Replace(v) }

// quoteIdent and quoteLiteral quote for SQL, whatever standard_conforming_strings is.
func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func quoteLiteral(s string) string {
	q := `'` + strings.ReplaceAll(s, `'`, `''`) + `'`
	if strings.Contains(s, `\`) {
		return ` E` + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}
