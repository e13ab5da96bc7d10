package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// place is where agents and PostgreSQL run: this system, or another one below root. Its paths are those that are seen inside;
// outside translates them for this process, which stays where it is.
type place struct {
	root     string // "": this system
	uid, gid uint32
	user     string
	other    bool   // not the user of this process
	dir      string // our directory, which everything is in
	binDir   string // PostgreSQL's programs
}

func (p *place) outside(path string) string { return filepath.Join(p.root, path) }

// newPlace makes a directory of our own there and finds PostgreSQL.
func newPlace(root, binDir string) (*place, error) {
	p := &place{root: root, binDir: binDir}
	if err := p.findUser(); err != nil {
		return nil, err
	}
	if p.binDir == "" {
		if err := p.findPostgres(); err != nil {
			return nil, err
		}
	}
	temporary := "/tmp"
	if root == "" {
		temporary = os.TempDir()
	}
	dir, err := os.MkdirTemp(p.outside(temporary), "regent-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory to measure in: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil { // processes are found by where they work
		return nil, err
	}
	p.dir = filepath.Join("/", strings.TrimPrefix(dir, root))
	return p, errors.Join(os.Chmod(dir, 0o700), p.own(dir))
}

// findUser looks up whom agents and PostgreSQL run as: neither does as root.
func (p *place) findUser() error {
	if uid := os.Geteuid(); uid != 0 {
		p.uid, p.gid, p.user = uint32(uid), uint32(os.Getegid()), strconv.Itoa(uid)
		return nil
	}
	text, err := os.ReadFile(p.outside("/etc/passwd"))
	if err != nil {
		return fmt.Errorf("find user postgres: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(line, ":")
		if len(f) < 4 || f[0] != "postgres" {
			continue
		}
		uid, errUID := strconv.ParseUint(f[2], 10, 32)
		gid, errGID := strconv.ParseUint(f[3], 10, 32)
		p.uid, p.gid, p.user, p.other = uint32(uid), uint32(gid), f[0], true
		return errors.Join(errUID, errGID)
	}
	return fmt.Errorf("find user postgres in %s: PostgreSQL does not run as root; make that user, or run this as an ordinary one", p.outside("/etc/passwd"))
}

// findPostgres takes the newest version that the distribution has installed.
func (p *place) findPostgres() error {
	pattern := p.outside("/usr/lib/postgresql/*/bin/postgres")
	found, _ := filepath.Glob(pattern)
	best := 0
	for _, program := range found {
		dir := filepath.Dir(program)
		if major, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))); major > best {
			best, p.binDir = major, "/"+strings.TrimPrefix(strings.TrimPrefix(dir, p.root), "/")
		}
	}
	if best == 0 {
		return fmt.Errorf("find PostgreSQL: there is no %s; install it, or name its folder of programs with --pg-bin", pattern)
	}
	return nil
}

func (p *place) own(path string) error {
	if !p.other {
		return nil
	}
	return os.Chown(path, int(p.uid), int(p.gid))
}

// mkdir makes a directory inside, which belongs to the user there.
func (p *place) mkdir(path string) error {
	return errors.Join(os.Mkdir(p.outside(path), 0o700), p.own(p.outside(path)))
}

// write writes a file inside that only its user reads.
func (p *place) write(path string, text []byte) error {
	return errors.Join(os.WriteFile(p.outside(path), text, 0o600), p.own(p.outside(path)))
}

// command is a program inside, in a group of its own so that the interrupt key reaches only us. If we die, it gets the signal.
func (p *place) command(ctx context.Context, whenWeDie syscall.Signal, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), foreign), "HOME="+dir, "USER="+p.user, "LOGNAME="+p.user, "LC_ALL=C.UTF-8", "PATH=/usr/bin:/bin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: p.root, Setpgid: true, Pdeathsig: whenWeDie}
	if p.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: p.uid, Gid: p.gid}
	}
	return cmd
}

// foreign variables would change how an agent or PostgreSQL works.
func foreign(e string) bool {
	name, _, _ := strings.Cut(e, "=")
	for _, prefix := range []string{"PATRONI", "REGENT_", "PG", "LC_", "PYTHON", "GO"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return slices.Contains([]string{"LANG", "LANGUAGE", "HOME", "USER", "LOGNAME", "PATH", "TZ", "TMPDIR", "NOTIFY_SOCKET"}, name)
}

// output runs a program inside to its end.
func (p *place) output(ctx context.Context, args ...string) (string, error) {
	out, err := p.command(ctx, syscall.SIGKILL, p.dir, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}

// exists says whether a file is there, inside.
func (p *place) exists(path string) bool {
	_, err := os.Stat(p.outside(path))
	return !errors.Is(err, fs.ErrNotExist)
}

// remove ends the PostgreSQLs that still run in our directory, and deletes it.
func (p *place) remove() error {
	if err := p.killPostgres(p.dir); err != nil {
		return err
	}
	return os.RemoveAll(p.outside(p.dir))
}

var usedPorts = map[int]bool{}

// freePort finds a port of the loopback address that nobody listens on, below those that the kernel gives to outgoing connections: a
// member that is started again must find its port free.
func freePort() (int, error) {
	for range 200 {
		port := 15000 + rand.IntN(15000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil || usedPorts[port] {
			continue
		}
		_ = l.Close()
		usedPorts[port] = true
		return port, nil
	}
	return 0, errors.New("find a free port: 200 between 15000 and 29999 are all taken")
}
