package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ctl"
)

// screen is where a person reads.
type screen struct {
	out      io.Writer
	terminal bool
	colour   bool
	began    time.Time // what elapsed times count from
	closed   func()    // called when nobody reads any more
}

func newScreen(f *os.File, closed func()) *screen {
	s := &screen{out: f, terminal: isTerminal(f), began: time.Now(), closed: closed}
	s.colour = s.terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

// isTerminal says whether people read the output: a character device that is not /dev/null.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
)

func (s *screen) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (s *screen) say(format string, args ...any) { s.write(fmt.Sprintf(format+"\n", args...)) }

func (s *screen) write(text string) {
	if _, err := io.WriteString(s.out, text); err != nil {
		s.closed()
	}
}

func (s *screen) headline(format string, args ...any) {
	s.say("\n%s", s.paint(bold, fmt.Sprintf(format, args...)))
}

// step is one line of what happens, with the time since the scene began.
func (s *screen) step(format string, args ...any) {
	s.say("%s  %s", s.paint(dim, fmt.Sprintf("%6.1f s", time.Since(s.began).Seconds())), fmt.Sprintf(format, args...))
}

// table is the table of the cluster, exactly as `regent list` prints it.
func (c *demoCluster) table(ctx context.Context) (string, error) {
	var out, problems bytes.Buffer
	p := &ctl.Program{
		Name: "regent", In: strings.NewReader(""), Out: &out, Err: &problems, Getenv: func(string) string { return "" }, Now: time.Now,
		Connect: func(ctl.Options) (*ctl.Site, error) {
			return &ctl.Site{Scope: c.scope, Open: func(context.Context, string, *int) (ctl.Store, error) { return shared{c.store}, nil }}, nil
		},
	}
	root := p.Root("")
	root.AddCommand(p.Commands()...)
	if code := ctl.Run(ctx, root, []string{"list"}, &problems); code != 0 {
		return "", fmt.Errorf("print the table: %s", strings.TrimSpace(problems.String()))
	}
	return out.String(), nil
}

// shared is a store that lives on after a command has closed it.
type shared struct{ ctl.Store }

func (shared) Close() error { return nil }

// showTable prints the table.
func (c *demoCluster) showTable(ctx context.Context, s *screen) error {
	t, err := c.table(ctx)
	if err != nil {
		return err
	}
	s.write("\n" + t)
	return nil
}

// duration is a time in seconds for people.
func duration(d time.Duration) string {
	if d < 995*time.Millisecond {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	if d%time.Second == 0 {
		return fmt.Sprintf("%d s", d/time.Second)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// number writes thousands apart: 12,345.
func number(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// howTo says what a person can do with the running cluster.
func (c *demoCluster) howTo(s *screen, program string) {
	file := c.members[0].file()
	s.say("\nConnect, always to the primary:\n  psql '%s'", c.dsn())
	s.say("Look and act, with this program or with patronictl:\n  %s list -c %s\n  %s switchover -c %s --force", program, file, program, file)
	if s.terminal {
		s.say("Kill a member, agent and PostgreSQL:\n  type 0 or 1, and Enter; it is started again after %s, as a pod would be", duration(respawnAfter))
	}
	s.say("Logs, configuration and data:\n  %s", c.dir)
	s.say("End everything:\n  Ctrl-C")
}

// live redraws the table in place on a terminal; elsewhere it prints it when members, roles or timelines change.
type live struct {
	*screen
	lines int    // of the last drawing
	shown string // what the last drawing was about
}

func (l *live) draw(table, status string, v view) {
	if !l.terminal {
		about := ""
		if v.snapshot != nil {
			for _, m := range v.snapshot.Members {
				about += fmt.Sprint(m.Name, m.State, m.Timeline, v.snapshot.ShownRole(m) == cluster.ShownLeader)
			}
		}
		if about != l.shown {
			l.shown = about
			l.say("\n%s%s", table, status)
		}
		return
	}
	var b strings.Builder
	if l.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", l.lines)
	}
	text := table + status + "\n"
	b.WriteString("\x1b[?7l" + text + "\x1b[?7h") // a long line is cut, not wrapped: the next drawing counts lines
	l.lines = strings.Count(text, "\n")
	l.write(b.String())
}
