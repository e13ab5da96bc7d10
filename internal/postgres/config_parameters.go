package postgres

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// commandLineParameters are given to the postmaster as arguments, in this order, so that ALTER SYSTEM cannot
// change them (config.md 5.1).
var commandLineParameters = []string{"listen_addresses", "port", "cluster_name", "wal_level", "hot_standby", "max_connections",
	"max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction", "track_commit_timestamp", "max_replication_slots",
	"max_worker_processes", "wal_log_hints"}

// standbySensitive are the settings that a standby must not have lower than its primary had (ha.md 2.27).
var standbySensitive = []string{"max_connections", "max_wal_senders", "max_worker_processes", "max_prepared_transactions", "max_locks_per_transaction"}

// CommandLine is how the postmaster is called, but for -D: the configuration file and the controlled parameters.
// c, if given, raises those that a standby must not have too low.
func (p *Instance) CommandLine(mode StartMode, c *cluster.Control) []string {
	s := p.Settings()
	version, err := dataDirVersion(s.DataDir)
	if err != nil {
		version = p.binaries.major
	}
	parameters := p.parameters(version, mode, c)
	args := []string{"--config-file=" + s.confFile()}
	for _, name := range p.commandLineNames() {
		if v, set := parameters[name]; set {
			args = append(args, "--"+name+"="+v)
		}
	}
	return args
}

func (p *Instance) commandLineNames() []string {
	if names := p.Settings().Command; names != nil {
		return names
	}
	return commandLineParameters
}

// parameters are the settings that go into the general part of postgresql.conf: those that this version of
// PostgreSQL accepts, raised for a standby. The caller may change the map.
func (p *Instance) parameters(version int, mode StartMode, c *cluster.Control) map[string]string {
	general, _ := p.acceptedSettings(version)
	if mode != AsPrimary && c != nil {
		raise(general, c)
	}
	if s := p.Settings(); mode == AsRestored && s.restore().blind() {
		general["hot_standby"] = "off"
	}
	return general
}

// acceptedSettings are the configured settings that this version of PostgreSQL accepts, the recovery settings
// apart from the others. The caller may change the maps.
func (p *Instance) acceptedSettings(version int) (general, recovery map[string]string) {
	s := p.Settings()
	wanted := s.userRecovery(version)
	for name, v := range s.Parameters {
		if !isRecoveryParameter(name) && name != "hba_file" && name != "ident_file" {
			wanted[name] = v
		}
	}
	if s.ListenHosts != "" {
		wanted["listen_addresses"] = s.ListenHosts
	}
	if s.Port != 0 {
		wanted["port"] = strconv.Itoa(s.Port)
	}
	general = p.accepted(version, wanted)
	recovery = recoveryAmong(general)
	maps.DeleteFunc(general, func(name, _ string) bool { return isRecoveryParameter(name) })
	return general, recovery
}

// raise sets the standby-sensitive parameters to what the control file records where they are lower or not set.
func raise(parameters map[string]string, c *cluster.Control) {
	for _, name := range standbySensitive {
		least, ok := c.Settings[name]
		if !ok {
			continue
		}
		if have, ok := cluster.ParseInt(parameters[name], ""); !ok || have < int64(least) {
			parameters[name] = strconv.Itoa(least)
		}
	}
}

// checkedParameters remembers the last answer of the server program about a set of parameters.
type checkedParameters struct {
	asked    string
	accepted map[string]string
}

// accepted leaves out what this PostgreSQL would refuse, with a warning: a single wrong line would keep the
// server from starting, or from reading any change. The server program itself is asked, so extension settings, units,
// bounds and enumerations count as in that version (config.md 5.3).
func (p *Instance) accepted(version int, wanted map[string]string) map[string]string {
	asked := strconv.Itoa(version) + "\n" + renderSettings(sorted(wanted))
	p.db.mu.Lock()
	if p.db.checked.asked == asked {
		defer p.db.mu.Unlock()
		return maps.Clone(p.db.checked.accepted)
	}
	p.db.mu.Unlock()
	result := maps.Clone(wanted)
	if p.binaries.major == version {
		p.check(result)
	}
	p.db.mu.Lock()
	defer p.db.mu.Unlock()
	p.db.checked = checkedParameters{asked: asked, accepted: maps.Clone(result)}
	return result
}

var (
	badParameter = regexp.MustCompile(`parameter "([^"]+)"`)
	outOfRange   = regexp.MustCompile(`(\S+)(?: \S+)? is outside the valid range for parameter "([^"]+)" \((\S+)(?: \S+)? \.\. (\S+)(?: \S+)?\)`)
)

// check asks "postgres -C" about the parameters and removes or bounds what it complains about. Each round settles
// at least one parameter. If the program cannot be asked, everything is left as it is.
func (p *Instance) check(parameters map[string]string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	dir, err := os.MkdirTemp("", "regent-check")
	if err != nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "parameters are not checked", slog.Any("error", err))
		return
	}
	defer os.RemoveAll(dir)
	conf := filepath.Join(dir, "postgresql.conf")
	for range len(parameters) + 1 {
		if err := os.WriteFile(conf, []byte(renderSettings(sorted(parameters))), 0o600); err != nil {
			p.log.LogAttrs(ctx, slog.LevelWarn, "parameters are not checked", slog.Any("error", err))
			return
		}
		cmd := exec.CommandContext(ctx, p.binaries.path("postgres"), "-C", "port", "-D", dir, "--config-file="+conf)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		var complaints bytes.Buffer
		cmd.Stderr = &complaints
		err := cmd.Run()
		if err == nil {
			return
		}
		if !p.settle(ctx, parameters, complaints.String()) {
			p.log.LogAttrs(ctx, slog.LevelWarn, "parameters are not checked: the server program refuses them for another reason",
				slog.Any("error", err), slog.String("output", strings.TrimSpace(complaints.String())))
			return
		}
	}
}

// settle removes or bounds the parameters that the complaints name, and says whether there was any.
func (p *Instance) settle(ctx context.Context, parameters map[string]string, complaints string) (any bool) {
	for line := range strings.Lines(complaints) {
		line = strings.TrimSpace(line)
		if m := outOfRange.FindStringSubmatch(line); m != nil {
			if have, set := parameters[m[2]]; set && have != m[3] && have != m[4] {
				bound, word := m[4], "too big, decreasing"
				if x, ok := cluster.ParseReal(m[1], ""); ok {
					if least, ok := cluster.ParseReal(m[3], ""); ok && x < least {
						bound, word = m[3], "too low, increasing"
					}
				}
				p.log.LogAttrs(ctx, slog.LevelWarn, "Value of parameter is "+word+" it to the bound",
					slog.String("parameter", m[2]), slog.String("value", have), slog.String("bound", bound))
				parameters[m[2]], any = bound, true
				continue
			}
		}
		m := badParameter.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if value, set := parameters[m[1]]; set {
			msg := "Removing parameter from the config due to the invalid value"
			if strings.Contains(line, "unrecognized configuration parameter") {
				msg = "Removing unexpected parameter from the config"
			}
			p.log.LogAttrs(ctx, slog.LevelWarn, msg, slog.String("parameter", m[1]), slog.String("value", value))
			delete(parameters, m[1])
			any = true
		}
	}
	return any
}
