package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The PostgreSQL major versions that this package knows.
const (
	OldestVersion = 13
	NewestVersion = 18
)

// Instance is one local PostgreSQL: a data directory and the programs to run it. It may be observed
// from several goroutines; its caller runs at most one of the changing methods at a time.
type Instance struct {
	log      *slog.Logger
	binaries binaries

	mu       sync.Mutex
	settings Settings

	files   sync.Mutex // held while the configuration files are written
	db      db         // connections and what is remembered for SQL
	process process    // the postmaster that we know of
	noLocks sync.Once  // tells that the filesystem has no locks
}

// Progress receives news of a long action. It may be nil, must not block, and is called from one
// goroutine at a time.
type Progress func(Report)

// Report is how far a long action has come.
type Report struct {
	Phase       string // "copying", "replaying", ...
	Done, Total int64  // bytes; Total 0: unknown
	Detail      string // for people
}

func (p Progress) report(r Report) {
	if p != nil {
		p(r)
	}
}

// Source is another member that data comes from. Credentials are our own.
type Source struct {
	Host string
	Port int
	Name string

	Restore    string // restore_command that goes with it, of section standby_cluster
	BaseBackup bool   // clone with pg_basebackup, whatever create_replica_methods says (reinitialize from the leader)
}

// binaries are the installed server programs.
type binaries struct {
	dir   string // empty: found through PATH
	names map[string]string
	major int
}

// path returns where a program is, under the name that bin_name gives it (config.md 2.6).
func (b binaries) path(program string) string {
	name := program
	if n := b.names[program]; n != "" {
		name = n
	}
	return filepath.Join(b.dir, name)
}

// New finds and checks the server programs. It touches nothing. The agent's user must be the owner
// of the data directory and not root, because PostgreSQL refuses to run as root.
func New(s Settings, log *slog.Logger) (*Instance, error) {
	if os.Geteuid() == 0 {
		return nil, errors.New("run PostgreSQL as root: PostgreSQL refuses that; start the agent as the user that owns the data directory, usually postgres")
	}
	if !filepath.IsAbs(s.DataDir) {
		return nil, fmt.Errorf("data_dir: have %q, want an absolute path", s.DataDir)
	}
	b, err := findBinaries(s)
	if err != nil {
		return nil, err
	}
	return &Instance{log: log, binaries: b, settings: s}, nil
}

// Settings returns the settings in force. Its maps and slices must not be changed.
func (p *Instance) Settings() Settings {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settings
}

// Configure replaces the settings; the next Reload or Start brings them to PostgreSQL. The place of
// the data directory and of the programs cannot change while the agent runs.
func (p *Instance) Configure(s Settings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.DataDir, s.BinDir, s.BinNames = p.settings.DataDir, p.settings.BinDir, p.settings.BinNames
	p.settings = s
}

// Version returns the major version of the installed programs.
func (p *Instance) Version() int { return p.binaries.major }

// findBinaries looks for the server programs in bin_dir, else in PATH, else where distributions
// install them. Of several distribution versions it takes the one that made the data directory, else the newest.
func findBinaries(s Settings) (binaries, error) {
	b := binaries{names: s.BinNames}
	if s.BinDir != "" {
		return b.at(s.BinDir)
	}
	wanted, _ := dataDirVersion(s.DataDir)
	server := filepath.Base(b.path("postgres"))
	if found, err := exec.LookPath(server); err == nil {
		if in, err := b.at(filepath.Dir(found)); err == nil && (wanted == 0 || wanted == in.major) {
			return in, nil
		}
	}
	dirs := InstalledDirs(server)
	if len(dirs) == 0 {
		return b, fmt.Errorf("find PostgreSQL: no %s in PATH, /usr/lib/postgresql/*/bin or /usr/pgsql-*/bin; set postgresql.bin_dir", server)
	}
	for _, dir := range dirs {
		if in, err := b.at(dir); err == nil && in.major == wanted {
			return in, nil
		}
	}
	return b.at(dirs[0])
}

// at checks that a directory has the programs of a version that we know.
func (b binaries) at(dir string) (binaries, error) {
	b.dir = dir
	if real, err := filepath.EvalSymlinks(filepath.Join(dir, filepath.Base(b.path("postgres")))); err == nil && b.names["postgres"] == "" {
		b.dir = filepath.Dir(real) // PATH may hold a link to postgres alone; its siblings stand beside the real one
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, b.path("postgres"), "--version").Output()
	if err != nil {
		return b, fmt.Errorf("ask %s for its version: %w; set postgresql.bin_dir to the directory of the server programs", b.path("postgres"), err)
	}
	if b.major = majorOf(string(out)); b.major < OldestVersion || b.major > NewestVersion {
		return b, fmt.Errorf("%s in %s: have PostgreSQL version %d, want %d to %d", strings.TrimSpace(string(out)), dir, b.major, OldestVersion, NewestVersion)
	}
	return b, nil
}

var versionNumber = regexp.MustCompile(`(\d+)(?:\.\d+|devel|beta\d+|rc\d+)?`)

// majorOf reads the first version number of a text like "postgres (PostgreSQL) 15.14 (Debian …)".
func majorOf(text string) int {
	m := versionNumber.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// InstalledDirs lists the directories of distributions that hold the named server program, newest version first.
func InstalledDirs(server string) []string {
	var dirs []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/", "/usr/pgsql-*/bin/", "/usr/local/pgsql/bin/"} {
		found, _ := filepath.Glob(pattern + server)
		for _, f := range found {
			dirs = append(dirs, filepath.Dir(f))
		}
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return majorOf(b) - majorOf(a) })
	return dirs
}

// dataDirVersion reads the major version that made a data directory; 0 when there is none.
func dataDirVersion(dir string) (int, error) {
	text, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if err != nil {
		return 0, err
	}
	return majorOf(string(text)), nil
}
