package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/regent-ha/regent/internal/cluster"
)

// Control reads the control data with pg_controldata. It works on a running and on a stopped instance.
func (p *Instance) Control(ctx context.Context) (cluster.Control, error) {
	dir := p.Settings().DataDir
	cmd := exec.CommandContext(ctx, p.binaries.path("pg_controldata"), dir)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LANG=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return cluster.Control{}, fmt.Errorf("read control data of %s: %w%s", dir, err, detail(stderr.Bytes()))
	}
	// "WARNING: Calculated CRC" on the output up to 16, "warning: calculated CRC" on stderr from 17.
	if strings.Contains(strings.ToLower(stderr.String()), "warning") || strings.Contains(string(out), "WARNING: Calculated CRC") {
		return cluster.Control{}, fmt.Errorf("read control data of %s: its checksum does not match; the file is damaged: restore it or reinitialize this member", dir)
	}
	return parseControl(string(out))
}

// parseControl reads the C-locale output of pg_controldata 13 to 18.
func parseControl(text string) (cluster.Control, error) {
	f := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			f[name] = strings.TrimSpace(value)
		}
	}
	var problems []error
	lsn := func(name string) cluster.LSN {
		v, err := cluster.ParseLSN(f[name])
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
		return v
	}
	number := func(name string) int {
		v, err := strconv.Atoi(f[name])
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: have %q, want a number", name, f[name]))
		}
		return v
	}
	c := cluster.Control{
		State:          cluster.ControlState(f["Database cluster state"]),
		SystemID:       f["Database system identifier"],
		Checkpoint:     lsn("Latest checkpoint location"),
		CheckpointTLI:  cluster.Timeline(number("Latest checkpoint's TimeLineID")),
		Redo:           lsn("Latest checkpoint's REDO location"),
		MinRecovery:    lsn("Minimum recovery ending location"),
		MinRecoveryTLI: cluster.Timeline(number("Min recovery ending loc's timeline")),
		Checksums:      number("Data page checksum version") != 0,
		WALLogHints:    f["wal_log_hints setting"] == "on",
		Settings:       map[string]int{},
	}
	for name := range f {
		if guc, ok := strings.CutSuffix(name, " setting"); ok {
			if v, err := strconv.Atoi(f[name]); err == nil {
				c.Settings[strings.Replace(guc, "max_prepared_xacts", "max_prepared_transactions", 1)] = v
			}
		}
	}
	if v, ok := c.Settings["max_locks_per_xact"]; ok {
		delete(c.Settings, "max_locks_per_xact")
		c.Settings["max_locks_per_transaction"] = v
	}
	if c.State == "" || c.SystemID == "" {
		problems = append(problems, errors.New("no cluster state or no system identifier"))
	}
	if len(problems) > 0 {
		return cluster.Control{}, fmt.Errorf("understand pg_controldata: %w", errors.Join(problems...))
	}
	return c, nil
}

// glance is what can be read from pg_control in microseconds, for polling while the server stops or is promoted.
type glance struct {
	state      cluster.ControlState
	systemID   string
	checkpoint cluster.LSN
	timeline   cluster.Timeline
}

// castagnoli is the polynomial of PostgreSQL's CRC-32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// states in the order of PostgreSQL's enum DBState (src/include/catalog/pg_control.h).
var states = []cluster.ControlState{cluster.ControlStartingUp, cluster.ControlShutDown, cluster.ControlShutDownRecovery,
	cluster.ControlShuttingDown, cluster.ControlCrashRecovery, cluster.ControlArchiveRecovery, cluster.ControlInProduction}

// glance reads pg_control itself. Versions 13 to 18 begin alike: system identifier (offset 0, 8 bytes), pg_control
// version (8, 4), catalog version (12, 4), state (16, 4), time (24, 8), checkpoint position (32, 8), its redo
// position (40, 8) and timeline (48, 4). The CRC stands behind the last field, whose offset differs; it is looked
// for, and a file without a matching one is torn or damaged. Numbers have the machine's byte order.
func (p *Instance) glance() (glance, error) {
	name := filepath.Join(p.Settings().DataDir, "global", "pg_control")
	for range 3 { // the server may be writing it right now
		b, err := os.ReadFile(name)
		if err != nil {
			return glance{}, fmt.Errorf("read control file: %w", err)
		}
		if g, ok := parseGlance(b); ok {
			return g, nil
		}
	}
	return glance{}, fmt.Errorf("read %s: no matching checksum; the file is damaged, or of a version other than %d to %d", name, OldestVersion, NewestVersion)
}

func parseGlance(b []byte) (glance, bool) {
	const shortest, longest = 200, 400 // of ControlFileData without its CRC
	if len(b) < longest+4 {
		return glance{}, false
	}
	state := binary.NativeEndian.Uint32(b[16:])
	version := binary.NativeEndian.Uint32(b[8:])
	if int(state) >= len(states) || version < 1300 || version > 1800 {
		return glance{}, false
	}
	crc := crc32.Checksum(b[:shortest], castagnoli)
	for at := shortest; at <= longest; at += 4 {
		if crc == binary.NativeEndian.Uint32(b[at:]) {
			return glance{
				state:      states[state],
				systemID:   strconv.FormatUint(binary.NativeEndian.Uint64(b), 10),
				checkpoint: cluster.LSN(binary.NativeEndian.Uint64(b[32:])),
				timeline:   cluster.Timeline(binary.NativeEndian.Uint32(b[48:])),
			}, true
		}
		crc = crc32.Update(crc, castagnoli, b[at:at+4])
	}
	return glance{}, false
}

// detail makes a program's last words part of an error.
func detail(output []byte) string {
	text := strings.TrimSpace(string(output))
	if text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	if len(lines) > 8 {
		lines = lines[len(lines)-8:]
	}
	return ": " + strings.Join(lines, "; ")
}
