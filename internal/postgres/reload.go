package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/cluster"
)

// Bounds of a reload: how long the server may take to report that it has read the files, and how often it is asked.
const (
	reloadLimit = 2 * time.Second
	reloadPoll  = 10 * time.Millisecond
)

// Reload writes the configuration, leaving the recovery settings as they are, and makes the server read it. It returns
// the settings that wait for a restart. Without a running server it does nothing: the next start writes everything.
func (p *Instance) Reload(ctx context.Context) (pending []cluster.PendingParameter, err error) {
	pm := p.postmaster()
	if pm == nil || pm.single {
		return nil, nil
	}
	before, known := p.loadTime(ctx)
	p.db.mu.Lock()
	r := p.db.recovery
	p.db.mu.Unlock()
	mode := AsPrimary
	if r != nil {
		mode = r.mode
	}
	if _, err := p.writeFiles(r, mode, nil); err != nil {
		return nil, fmt.Errorf("reload PostgreSQL: %w", err)
	}
	if r != nil && r.mode == AsStandby {
		if err := p.writePassfile(r.upstream); err != nil {
			return nil, fmt.Errorf("reload PostgreSQL: %w", err)
		}
	}
	if err := p.signalReload(pm); err != nil {
		return nil, fmt.Errorf("reload PostgreSQL: %w", err)
	}
	if !known {
		return nil, nil // it is starting or hung; it reads the files when it can
	}
	loaded, err := p.awaitLoad(ctx, before)
	if err != nil {
		return nil, fmt.Errorf("reload PostgreSQL: %w", err)
	}
	if problem := p.fileProblem(ctx); problem != "" {
		p.log.LogAttrs(ctx, slog.LevelWarn, "PostgreSQL left out a setting", slog.String("problem", problem))
	}
	return p.pending(ctx, loaded), nil
}

// signalReload makes the postmaster read its files. It also works while the server starts.
func (p *Instance) signalReload(pm *postmaster) error {
	if err := unix.Kill(pm.pid, unix.SIGHUP); err != nil {
		return fmt.Errorf("signal postmaster %d to reload: %w", pm.pid, err)
	}
	return nil
}

func (p *Instance) loadTime(ctx context.Context) (string, bool) {
	result, err := p.query(ctx, "SELECT pg_conf_load_time()")
	if err != nil || len(result) == 0 {
		return "", false
	}
	return result[0].At(0), true
}

// awaitLoad waits until the server has read its files after a signal. Files that it cannot parse it refuses as a
// whole, and the error says which line is wrong; a single bad value it leaves out.
func (p *Instance) awaitLoad(ctx context.Context, before string) (loaded string, err error) {
	ctx, cancel := context.WithTimeout(ctx, reloadLimit)
	defer cancel()
	tick := time.NewTicker(reloadPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return "", p.notLoaded()
		case <-tick.C:
		}
		if loaded, ok := p.loadTime(ctx); ok && loaded != before {
			return loaded, nil
		}
	}
}

// notLoaded explains why the server has not read its files.
func (p *Instance) notLoaded() error {
	ctx, cancel := context.WithTimeout(context.Background(), reloadLimit)
	defer cancel()
	if problem := p.fileProblem(ctx); problem != "" {
		return fmt.Errorf("the server refuses its files: %s; correct it", problem)
	}
	return fmt.Errorf("the server has not read its files within %s", reloadLimit)
}

// fileProblem names the first line of the configuration files that the server cannot use; empty: none.
func (p *Instance) fileProblem(ctx context.Context) string {
	result, err := p.query(ctx, `SELECT sourcefile, sourceline, coalesce(name, ''), error FROM pg_file_settings
WHERE error IS NOT NULL AND error <> 'setting could not be applied' ORDER BY seqno LIMIT 1`)
	if err != nil || len(result) == 0 {
		return ""
	}
	r := result[0]
	return fmt.Sprintf("%s line %s, %s: %s", r.At(0), r.At(1), r.At(2), r.At(3))
}

// pending returns the settings that wait for a restart: the server's own list, and settings on the command line that
// differ from the configuration (a standby was started with raised ones). Others are left to the server, which
// computes some of its values from the configured ones. It is done anew after each reload and change of the
// settings, not in every cycle. config.md 5.4.
func (p *Instance) pending(ctx context.Context, loaded string) []cluster.PendingParameter {
	s := p.Settings()
	version, err := dataDirVersion(s.DataDir)
	if err != nil {
		return nil
	}
	wanted := p.parameters(version, AsPrimary, nil)
	config := renderSettings(sorted(wanted))
	p.db.mu.Lock()
	if p.db.seen.loaded == loaded && p.db.seen.config == config {
		defer p.db.mu.Unlock()
		return slices.Clone(p.db.seen.pending)
	}
	p.db.mu.Unlock()
	found, err := p.findPending(ctx, wanted)
	p.db.mu.Lock()
	defer p.db.mu.Unlock()
	if err != nil {
		return slices.Clone(p.db.seen.pending) // as far as known; asked again in the next cycle
	}
	p.db.seen.loaded, p.db.seen.config, p.db.seen.pending = loaded, config, found
	return slices.Clone(found)
}

// postmasterSettings lists what can only change at start, and what the files say about it.
const postmasterSettings = `SELECT s.name, s.setting, coalesce(s.unit, ''), s.vartype, s.pending_restart, current_setting(s.name), coalesce(f.setting, s.boot_val, ''), f.setting IS NOT NULL
FROM pg_settings s LEFT JOIN (SELECT DISTINCT ON (lower(name)) lower(name) AS name, setting FROM pg_file_settings WHERE name IS NOT NULL ORDER BY lower(name), seqno DESC) f ON f.name = lower(s.name)
WHERE s.context = 'postmaster'`

func (p *Instance) findPending(ctx context.Context, wanted map[string]string) ([]cluster.PendingParameter, error) {
	result, err := p.query(ctx, postmasterSettings)
	if err != nil {
		return nil, err
	}
	var found []cluster.PendingParameter
	for _, r := range result {
		name, setting, unit, kind := r.At(0), r.At(1), r.At(2), r.At(3)
		if isRecoveryParameter(name) || name == "hot_standby" {
			continue
		}
		next, changed := r.At(6), r.At(4) == "t"
		if v, set := wanted[name]; set && slices.Contains(p.commandLineNames(), name) && !sameSetting(kind, unit, setting, v) {
			next, changed = v, true
		}
		if changed {
			found = append(found, cluster.PendingParameter{Name: name, Old: r.At(5), New: humanSetting(kind, unit, next)})
		}
	}
	slices.SortFunc(found, func(a, b cluster.PendingParameter) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// sameSetting compares the server's value, in units, with a configured one (config.md 1.12).
func sameSetting(kind, unit, have, want string) bool {
	switch kind {
	case "bool":
		a, okA := cluster.ParseBool(have)
		b, okB := cluster.ParseBool(want)
		return okA && okB && a == b
	case "integer":
		a, okA := cluster.ParseInt(have, unit)
		b, okB := cluster.ParseInt(want, unit)
		return okA && okB && a == b
	case "real":
		a, okA := cluster.ParseReal(have, unit)
		b, okB := cluster.ParseReal(want, unit)
		return okA && okB && math.Abs(a-b) <= 1e-9*math.Max(math.Abs(a), math.Abs(b))
	case "enum":
		return strings.EqualFold(have, want) || strings.EqualFold(have, "replica") && strings.EqualFold(want, "hot_standby")
	default:
		return have == want
	}
}

// humanSetting shows a value as SHOW would: in the largest unit that needs no fraction.
func humanSetting(kind, unit, value string) string {
	switch kind {
	case "bool":
		if b, ok := cluster.ParseBool(value); ok {
			return map[bool]string{true: "on", false: "off"}[b]
		}
	case "integer":
		if n, ok := cluster.ParseInt(value, unit); ok {
			return humanInteger(n, unit)
		}
	}
	return value
}

func humanInteger(n int64, unit string) string {
	scales := []struct {
		name string
		size int64
	}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}}
	base := int64(1)
	number := strings.TrimRight(unit, "kMGTB")
	if number == unit { // not memory
		scales = scales[:0]
		for _, s := range []struct {
			name string
			ms   int64
		}{{"d", 86400000}, {"h", 3600000}, {"min", 60000}, {"s", 1000}, {"ms", 1}} {
			scales = append(scales, struct {
				name string
				size int64
			}{s.name, s.ms})
		}
		number = ""
	}
	if k, err := strconv.ParseInt(number, 10, 64); err == nil {
		base = k
	}
	for _, s := range scales {
		if s.name == unit[len(number):] {
			base *= s.size
			for _, s := range scales {
				if n > 0 && n*base%s.size == 0 {
					return strconv.FormatInt(n*base/s.size, 10) + s.name
				}
			}
		}
	}
	return strconv.FormatInt(n, 10)
}

// SetSyncNames sets synchronous_standby_names and returns when the server has read it. Sessions that are busy
// take it over at their next commit. The value stays, also over restarts, until it is set again or the
// configuration itself has the parameter, which then wins.
func (p *Instance) SetSyncNames(ctx context.Context, names string) error {
	p.db.mu.Lock()
	p.db.sync = &names
	p.db.mu.Unlock()
	if _, set := p.Settings().Parameters["synchronous_standby_names"]; set {
		return errors.New("set synchronous_standby_names: the parameters have it, too, and would win; leave it out of them in synchronous mode")
	}
	if _, err := p.Reload(ctx); err != nil {
		return fmt.Errorf("set synchronous_standby_names: %w", err)
	}
	pm := p.postmaster()
	if pm == nil {
		return nil
	}
	result, err := p.query(ctx, "SELECT current_setting('synchronous_standby_names')")
	if err != nil {
		return fmt.Errorf("set synchronous_standby_names: see whether it is in force: %w", err)
	}
	if len(result) != 1 || result[0].At(0) != names {
		return fmt.Errorf("set synchronous_standby_names: have %q in force, want %q; something overrides it, ALTER SYSTEM for example", result[0].At(0), names)
	}
	return nil
}
