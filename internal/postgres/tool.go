package postgres

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// toolEnvironment is for PostgreSQL's own programs whose output we read: English, and no limit on statements.
func toolEnvironment(extra ...string) []string {
	return append(append(os.Environ(), "LC_ALL=C", "LANG=C", "PGOPTIONS=-c statement_timeout=0"), extra...)
}

// jobMark is an environment variable that names the data directory. Programs that fill or change it carry the mark, and their
// children too, so that an agent that restarted finds those that its predecessor left behind.
const jobMark = "REGENT_JOB="

// runTool runs a program until its end and gives each line that it writes to line; a carriage return ends a line too. When ctx
// ends, the program and its children get SIGTERM, and SIGKILL 5 s later. The error carries its last words.
func (p *Instance) runTool(ctx context.Context, cmd *exec.Cmd, line func(string)) error {
	name := filepath.Base(cmd.Path)
	cmd.Env = append(cmd.Env, jobMark+p.realDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	err = cmd.Start()
	write.Close()
	if err != nil {
		read.Close()
		return fmt.Errorf("run %s: %w", name, err)
	}
	group := -cmd.Process.Pid
	ended := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		_ = unix.Kill(group, unix.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
		}
		_ = unix.Kill(group, unix.SIGKILL)
		_ = read.Close() // whoever escaped from the group does not hold us up
	}()
	last := readLines(read, line)
	err = cmd.Wait()
	close(ended)
	<-stopped
	_ = read.Close()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("run %s: %w", name, context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("run %s: %w%s", name, err, detail([]byte(last)))
	}
	return nil
}

// readLines passes lines on and returns the last ones, without the progress lines that end with a carriage return.
func readLines(f *os.File, line func(string)) string {
	var last []string
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<20)
	scan.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
			return i + 1, data[:i], nil
		}
		if atEOF && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	for scan.Scan() {
		text := strings.TrimSpace(scan.Text())
		if text == "" {
			continue
		}
		if line != nil {
			line(text)
		}
		if last = append(last, text); len(last) > 20 {
			last = last[1:]
		}
	}
	return strings.Join(last, "\n")
}

// killOrphans ends the programs that an earlier agent had at work on this data directory.
func (p *Instance) killOrphans(ctx context.Context) error {
	mark := []byte(jobMark + p.realDir())
	found, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return err
	}
	for _, name := range found {
		env, err := os.ReadFile(name)
		if err != nil {
			continue // gone, or another user's
		}
		pid, err := strconv.Atoi(strings.Split(name, "/")[2])
		if err != nil || pid == os.Getpid() || !contains(env, mark) || isZombie(pid) {
			continue
		}
		p.log.LogAttrs(ctx, slog.LevelInfo, "end a program that an earlier agent left at work on the data directory", slog.Int("pid", pid))
		_ = unix.Kill(pid, unix.SIGKILL)
		if _, err := waitGone(ctx, pid, 10*time.Second); err != nil {
			return fmt.Errorf("end process %d, which works on %s: %w", pid, p.Settings().DataDir, err)
		}
	}
	return nil
}

func contains(env, entry []byte) bool {
	for e := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.Equal(e, entry) {
			return true
		}
	}
	return false
}

// login is what a program needs to connect as one of our accounts.
type login struct {
	dsn  string   // keywords, without the password
	env  []string // PGPASSFILE
	done func()   // removes the password file
}

// login prepares a connection for PostgreSQL's programs. The password goes into a file of its own, mode 0600.
func (p *Instance) login(a Account, host string, port int, more ...keyword) (login, error) {
	s := p.Settings()
	k := append(keywords{{"user", a.Username}, {"host", host}, {"port", portText(port)}, {"krbsrvname", s.KrbSrvName}}, more...)
	for _, o := range connectionOptions { // libpq refuses an option that it does not know
		if v := a.Options[o.name]; p.binaries.major >= o.since {
			k = append(k, keyword{o.name, v})
		}
	}
	l := login{dsn: k.String(), done: func() {}}
	if a.Password == "" {
		return l, nil
	}
	f, err := os.CreateTemp("", "regent-pgpass-*")
	if s.PgPass != "" { // one name, so that an agent that is killed leaves one file at most
		f.Close()
		os.Remove(f.Name())
		f, err = os.OpenFile(s.PgPass+".job", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	}
	if err != nil {
		return l, fmt.Errorf("write password file: %w", err)
	}
	_, err = f.WriteString(passLines(host, port, a))
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return l, fmt.Errorf("write password file: %w", err)
	}
	l.env, l.done = []string{"PGPASSFILE=" + f.Name()}, func() { os.Remove(f.Name()) }
	return l, nil
}

// shell makes a command of a configured command line and further arguments.
func shell(line string, args ...string) *exec.Cmd {
	return exec.Command("/bin/sh", append([]string{"-c", line + ` "$@"`, "sh"}, args...)...)
}

// setting asks postgres for the configured value of a parameter; the server must not be running.
func (p *Instance) setting(ctx context.Context, name string) (string, error) {
	s := p.Settings()
	args := []string{"-D", s.DataDir, "-C", name}
	if exists(s.confFile()) {
		args = append(args, "--config-file="+s.confFile())
	}
	cmd := exec.CommandContext(ctx, p.binaries.path("postgres"), args...)
	cmd.Env = toolEnvironment()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ask postgres for %s: %w%s", name, err, detail(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}
