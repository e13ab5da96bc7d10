package history

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// FileName is the history's name in a run's directory.
const FileName = "history.jsonl.gz"

// Recorder writes a history and remembers it. Its methods may be called from any goroutine.
type Recorder struct {
	start time.Time

	mu     sync.Mutex
	seen   History
	file   *os.File
	packed *gzip.Writer
	lines  *json.Encoder
	err    error // the first one
}

// NewRecorder creates the file; the run's time begins now.
func NewRecorder(path string) (*Recorder, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	z := gzip.NewWriter(f)
	return &Recorder{start: time.Now(), file: f, packed: z, lines: json.NewEncoder(z)}, nil
}

// Time is a moment of this run.
func (r *Recorder) Time(t time.Time) Time { return Time(t.Sub(r.start)) }

// Now is this moment.
func (r *Recorder) Now() Time { return r.Time(time.Now()) }

// Note adds an event.
func (r *Recorder) Note(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.Add(e)
	if err := r.lines.Encode(e); err != nil && r.err == nil {
		r.err = err
	}
}

// Seen is the history so far. What it holds is not changed any more.
func (r *Recorder) Seen() History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// Flush makes the file readable up to here.
func (r *Recorder) Flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.packed.Flush(); err != nil && r.err == nil {
		r.err = err
	}
}

// Close ends the file and returns what went wrong with it.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(r.err, r.packed.Close(), r.file.Close()); err != nil {
		return fmt.Errorf("write the history %s: %w", r.file.Name(), err)
	}
	return nil
}

// ReadFile reads a history. One that was cut short is read as far as it goes.
func ReadFile(path string) (h History, err error) {
	f, err := os.Open(path)
	if err != nil {
		return h, err
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return h, fmt.Errorf("read the history %s: %w", path, err)
	}
	for lines := json.NewDecoder(z); ; {
		var e Event
		switch err := lines.Decode(&e); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return h, nil
		case err != nil:
			return h, fmt.Errorf("read the history %s: %w", path, err)
		}
		h.Add(e)
	}
}
