package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/cluster"
)

// question is what query is asked for (ctl.md section 5).
type question struct {
	sql, file, format, delimiter string
	role, member                 string
	user, database, password     string
	askPassword                  bool
	group                        *int
	again                        repeat
}

func (p *Program) query() *cobra.Command {
	q := question{format: "tsv", delimiter: "\t"}
	c := p.bareCommand("query [OPTIONS] [CLUSTER_NAME]", "Ask the PostgreSQL of a member", func(ctx context.Context, args []string) error {
		return p.putQuestion(ctx, &q, args)
	})
	f := c.Flags()
	f.StringVarP(&q.sql, "command", "c", "", "the `SQL` to execute")
	f.StringVarP(&q.file, "file", "f", "", "the `file` with the SQL to execute")
	f.StringVar(&q.format, "format", q.format, "output format: "+strings.Join(formats, ", "))
	f.StringVar(&q.delimiter, "delimiter", q.delimiter, "between columns in tsv")
	f.VarP(choice{&q.role, roles}, "role", "r", "a member of this role; the leader by default")
	f.StringVarP(&q.member, "member", "m", "", "the member of this `name`")
	f.StringVarP(&q.user, "username", "U", "", "database user `name`")
	f.StringVarP(&q.database, "dbname", "d", "", "database `name`")
	f.BoolVar(&q.askPassword, "password", false, "ask for a password")
	f.Var(groupFlag{&q.group}, "group", "Citus group")
	q.again.flags(f)
	p.outputFlag(f)
	return c
}

// putQuestion checks the question and asks it, once or again and again.
func (p *Program) putQuestion(ctx context.Context, q *question, args []string) error {
	switch {
	case q.role != "" && q.member != "":
		return errors.New("--role and --member are mutually exclusive options")
	case q.sql != "" && q.file != "":
		return errors.New("--file and --command are mutually exclusive options")
	case q.sql == "" && q.file == "":
		return sentence("You need to specify either --command or --file")
	}
	if q.file != "" {
		text, err := os.ReadFile(q.file)
		if err != nil {
			return fmt.Errorf("read the SQL: %w", err)
		}
		q.sql = string(text)
	}
	if q.askPassword {
		var err error
		if q.password, err = p.secret(ctx, "Password: "); err != nil {
			return err
		}
	}
	if q.role == "" && q.member == "" {
		q.role = "leader"
	}
	site, err := p.Connect(p.options)
	if err != nil {
		return err
	}
	scope, err := clusterName(site, args)
	if err != nil {
		return err
	}
	return q.again.run(ctx, p, false, func() error {
		parts, err := p.read(ctx, site, scope, q.group)
		if err != nil {
			return err
		}
		text, err := p.answer(ctx, q, parts)
		if errors.Is(err, errAborted) {
			return err
		}
		if err != nil {
			text = p.Now().Format("2006-01-02 15:04:05") + "\t" + err.Error() + "\n"
		}
		fmt.Fprint(p.Out, text)
		return nil
	})
}

// answer asks the first member that fits and can be reached. An error is a row for the reader.
func (p *Program) answer(ctx context.Context, q *question, parts []part) (string, error) {
	role := q.role
	if q.member != "" {
		role = "any"
	}
	for _, m := range withRole(parts, role) {
		if m.host == "" || q.member != "" && m.Name != q.member {
			continue
		}
		answer, err := p.sql(ctx, q, m, role)
		if errors.Is(err, errNoConnection) {
			continue
		}
		if err != nil {
			return "", err
		}
		return answer, nil
	}
	switch {
	case q.member != "":
		return "", sentence("No connection to member %s is available", q.member)
	case q.role != "leader" && q.role != "any":
		return "", sentence("No connection to role '%s' is available", q.role)
	default:
		return "", sentence("No connection is available")
	}
}

// errNoConnection: the member cannot be connected to, or its PostgreSQL has not the role that was asked for.
var errNoConnection = errors.New("no connection")

func (p *Program) sql(ctx context.Context, q *question, m shown, role string) (string, error) {
	const connectTimeout = 5 * time.Second
	c, err := pgconn.ParseConfig("")
	if err != nil {
		return "", fmt.Errorf("read the environment of PostgreSQL clients: %w", err)
	}
	c.Host, c.Port, c.ConnectTimeout, c.Fallbacks = m.host, uint16(m.port), connectTimeout, nil
	if q.user != "" {
		c.User = q.user
	}
	if q.database != "" {
		c.Database = q.database
	}
	if q.password != "" {
		c.Password = q.password
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "Patroni ctl"
	}
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		p.warn("%v", err)
		return "", errNoConnection
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if role != "leader" && role != "any" {
		if _, rows, err := run(ctx, conn, "SELECT pg_catalog.pg_is_in_recovery()"); err != nil || rows[0][0].Truthy() != (role != "primary") {
			return "", errNoConnection
		}
	}
	columns, rows, err := run(ctx, conn, q.sql)
	if err != nil {
		return "", err
	}
	return q.render(columns, rows), nil
}

// run executes SQL and returns the last result set; without one that is an error, as in Patroni.
func run(ctx context.Context, conn *pgconn.PgConn, sql string) (columns []column, rows []row, err error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	var refused *pgconn.PgError
	switch {
	case ctx.Err() != nil:
		return nil, nil, errAborted
	case errors.As(err, &refused):
		return nil, nil, sentence("ERROR, SQLSTATE: %s", refused.Code)
	case err != nil:
		return nil, nil, err
	case len(results) == 0 || len(results[len(results)-1].FieldDescriptions) == 0:
		return nil, nil, sentence("ERROR, SQLSTATE: no results to fetch")
	}
	last := results[len(results)-1]
	for _, f := range last.FieldDescriptions {
		columns = append(columns, column{name: f.Name})
	}
	for _, r := range last.Rows {
		cells := make(row, 0, len(r))
		for i, text := range r {
			cells = append(cells, sqlValue(last.FieldDescriptions[i].DataTypeOID, text))
		}
		rows = append(rows, cells)
	}
	return columns, rows, nil
}

const boolOID = 16

// numeric says whether a type is a number: int8, int2, int4, oid, float4, float8, numeric.
func numeric(oid uint32) bool {
	switch oid {
	case 20, 21, 23, 26, 700, 701, 1700:
		return true
	}
	return false
}

func sqlValue(oid uint32, text []byte) value {
	switch {
	case text == nil:
		return value{}
	case oid == boolOID:
		return cluster.Flag(string(text) == "t")
	case numeric(oid) && !strings.ContainsAny(string(text), "NI"): // NaN and Infinity are no JSON numbers
		return value{Kind: cluster.Number, Text: string(text)}
	default:
		return cluster.Text(string(text))
	}
}

// render prints a result; a format that is not known prints nothing.
func (q *question) render(columns []column, rows []row) string {
	list := value{Kind: cluster.Array}
	texts := make([][]string, 0, len(rows))
	for _, r := range rows {
		object := value{Kind: cluster.Object}
		cells := make([]string, 0, len(r))
		for i, v := range r {
			object.Fields = append(object.Fields, cluster.Field{Name: columns[i].name, Value: v})
			cells = append(cells, v.String())
		}
		list.Items = append(list.Items, object)
		texts = append(texts, cells)
	}
	switch q.format {
	case "pretty":
		return prettyTable("", columns, texts)
	case "tsv":
		lines := []string{strings.Join(headings(columns), q.delimiter)}
		for _, cells := range texts {
			lines = append(lines, strings.Join(cells, q.delimiter))
		}
		return strings.Join(lines, "\n") + "\n"
	case "json":
		return string(list.EncodeSpaced()) + "\n"
	case "yaml", "yml":
		return blockYAML(list, 80) + "\n"
	default:
		return ""
	}
}

// secret asks for a text that is not shown on the terminal.
func (p *Program) secret(ctx context.Context, text string) (string, error) {
	fmt.Fprint(p.Out, text)
	if f, ok := p.In.(*os.File); ok {
		fd := int(f.Fd())
		if shown, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			quiet := *shown
			quiet.Lflag &^= unix.ECHO
			_ = unix.IoctlSetTermios(fd, unix.TCSETS, &quiet)
			defer func() {
				_ = unix.IoctlSetTermios(fd, unix.TCSETS, shown)
				fmt.Fprintln(p.Out)
			}()
		}
	}
	return p.readLine(ctx)
}
