package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/ha"
)

// journal is the ring of decisions on disk: one JSON object a line, in two files of at most journalSize bytes. An
// entry carries its View, so that the decision can be replayed and explained later.
type journal struct {
	dir string
	log *slog.Logger

	mu   sync.Mutex
	file *os.File
	size int64
	sick bool // a failed write is reported once, until one succeeds again
}

const journalSize = 8 << 20

// entry is one decision.
type entry struct {
	At       time.Time
	Reason   ha.Reason
	Detail   string    `json:",omitempty"`
	Actions  []string  `json:",omitempty"`
	RuledOut []string  `json:",omitempty"`
	Gates    []ha.Gate `json:",omitempty"`
	Errors   []string  `json:",omitempty"`
	View     *ha.View
}

func openJournal(dir string, log *slog.Logger) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open journal: %w; make the directory writable or set regent.journal_dir", err)
	}
	j := &journal{dir: dir, log: log}
	if err := j.open(); err != nil {
		return nil, fmt.Errorf("open journal: %w; make the directory writable or set regent.journal_dir", err)
	}
	return j, nil
}

func (j *journal) current() string  { return filepath.Join(j.dir, "decisions.jsonl") }
func (j *journal) previous() string { return filepath.Join(j.dir, "decisions.1.jsonl") }

func (j *journal) open() error {
	f, err := os.OpenFile(j.current(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	j.file, j.size = f, info.Size()
	return nil
}

// write appends a decision. A full disk must not stop the agent: it costs the entry.
func (j *journal) write(e entry) {
	line, err := json.Marshal(e)
	if err == nil {
		line = append(line, '\n')
		err = j.append(line)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil && !j.sick {
		j.log.Warn("write journal: this and later decisions are missing from it", "error", err)
	}
	j.sick = err != nil
}

func (j *journal) append(line []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.size+int64(len(line)) > journalSize {
		if err := errors.Join(j.file.Close(), os.Rename(j.current(), j.previous())); err != nil {
			return err
		}
		if err := j.open(); err != nil {
			return err
		}
	}
	n, err := j.file.Write(line)
	j.size += int64(n)
	return err
}

// read returns the newest entries at or before a moment, newest first. A damaged line costs itself.
func (j *journal) read(until time.Time, limit int) ([]entry, error) {
	var all []entry
	for _, name := range []string{j.previous(), j.current()} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e entry
			if json.Unmarshal(lines.Bytes(), &e) == nil && !e.At.After(until) {
				all = append(all, e)
				if len(all) > 4*limit {
					all = append(all[:0], all[len(all)-limit:]...)
				}
			}
		}
		err = errors.Join(lines.Err(), f.Close())
		if err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
	}
	var out []entry
	for i := len(all) - 1; i >= 0 && len(out) < limit; i-- {
		out = append(out, all[i])
	}
	return out, nil
}

func (j *journal) close() error { return j.file.Close() }
