package ctl

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/config"
)

// localFindings are about the configuration file and the disk of this machine.
func (s *Site) localFindings() []Finding {
	f := Finding{Check: "configuration", Verdict: fine, Found: "valid"}
	if len(s.Problems) > 0 {
		f.Verdict, f.Found, f.Advice = warning, strings.Join(s.Problems, "; "), "correct the file; validate says more"
	}
	list := []Finding{f}
	if s.Member == nil {
		return list
	}
	data := s.Member.Postgres.DataDir
	for _, dir := range []string{data, data + "/pg_wal"} {
		var stat unix.Statfs_t
		if err := unix.Statfs(dir, &stat); err != nil {
			continue // no member here, or nobody who may look
		}
		list = append(list, diskFinding(dir, stat.Bavail*uint64(stat.Bsize), stat.Blocks*uint64(stat.Bsize)))
	}
	return append(list, watchdogFinding(s.Member.Watchdog, unix.Access(s.Member.Watchdog.Device, unix.W_OK)))
}

// Of the blocks that PostgreSQL's user can have.
const (
	fullDisk  = 0.05
	tightDisk = 0.15
)

func diskFinding(dir string, free, size uint64) Finding {
	f := Finding{Check: "disk", Subject: dir, Verdict: fine, Found: fmt.Sprintf("%d of %d MiB are free", free>>20, size>>20)}
	switch part := float64(free) / float64(max(size, 1)); {
	case part < fullDisk:
		f.Verdict, f.Advice = problem, "make room now: PostgreSQL stops when it cannot write WAL. Look for replication slots that nobody reads, and for an archive_command that does not work"
	case part < tightDisk:
		f.Verdict, f.Advice = warning, "make room: look at replication slots, archiving and logs"
	}
	return f
}

// watchdogFinding tells of the device; the guard is each member's to tell. refused is why the device cannot be opened for writing by who
// runs this, nil if it can.
func watchdogFinding(w config.Watchdog, refused error) Finding {
	f := Finding{Check: "watchdog", Subject: w.Device, Verdict: fine, Found: "the device is there, watchdog.mode is " + w.Mode}
	switch {
	case w.Mode == "off":
		f.Found = "watchdog.mode is off: the guard alone ends PostgreSQL when its agent cannot"
	case errors.Is(refused, fs.ErrNotExist) && w.Mode == "required":
		f.Verdict, f.Found = warning, "watchdog.mode is required, and there is no such device: a member without a living guard cannot lead"
		f.Advice = "load the module of the machine's watchdog, or softdog"
	case errors.Is(refused, fs.ErrNotExist):
		f.Found = "no such device: the guard alone ends PostgreSQL when its agent cannot"
	case refused != nil:
		f.Verdict, f.Found, f.Advice = warning, fmt.Sprintf("the device is there, but not for us: %v", refused), "let the agent's user write to it, by a udev rule for example; or run this as that user"
	}
	return f
}
