package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/config"
)

// newLogger logs as the section log says (config.md section 6): plain lines like Patroni's, with the attributes
// behind the message, or one JSON object per line.
func newLogger(c config.Log, stderr io.Writer) (log *slog.Logger, closeLog func() error, err error) {
	out, closeLog := stderr, func() error { return nil }
	if c.Dir != "" {
		f := &rotating{path: filepath.Join(c.Dir, "patroni.log"), mode: os.FileMode(c.Mode), most: c.FileSize, keep: c.FileNum}
		if err := f.open(); err != nil {
			return nil, nil, fmt.Errorf("open the log file: %w; log.dir must exist and be writable", err)
		}
		out, closeLog = f, f.Close
	}
	level := levelOf(c.Level)
	if c.Type != "json" {
		return slog.New(newPlain(out, level)), closeLog, nil
	}
	log = slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: patroniNames}))
	for name, text := range c.StaticFields {
		log = log.With(name, text)
	}
	return log, closeLog, nil
}

func levelOf(word string) slog.Level {
	switch strings.ToUpper(word) {
	case "DEBUG":
		return slog.LevelDebug
	case "WARN", "WARNING":
		return slog.LevelWarn
	case "ERROR", "FATAL", "CRITICAL":
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

// patroniNames gives the fields of a JSON record the names that log collectors know from Patroni.
func patroniNames(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.String("asctime", clockText(a.Value.Time()))
	case slog.LevelKey:
		return slog.String("levelname", levelName(a.Value.Any().(slog.Level)))
	case slog.MessageKey:
		return slog.Attr{Key: "message", Value: a.Value}
	default:
		return a
	}
}

func clockText(t time.Time) string {
	return fmt.Sprintf("%s,%03d", t.Format("2006-01-02 15:04:05"), t.Nanosecond()/int(time.Millisecond))
}

func levelName(l slog.Level) string {
	if l >= slog.LevelWarn && l < slog.LevelError {
		return "WARNING"
	}
	return l.String()
}

// plain writes "2026-01-31 12:00:00,123 INFO: message key=value". The attributes are formatted by slog's own text
// handler, into a buffer.
type plain struct {
	mu    *sync.Mutex
	out   io.Writer
	text  *bytes.Buffer
	attrs slog.Handler
}

func newPlain(out io.Writer, level slog.Leveler) *plain {
	p := &plain{mu: &sync.Mutex{}, out: out, text: &bytes.Buffer{}}
	p.attrs = slog.NewTextHandler(p.text, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return a
	}})
	return p
}

func (p *plain) Enabled(ctx context.Context, l slog.Level) bool { return p.attrs.Enabled(ctx, l) }

func (p *plain) Handle(ctx context.Context, r slog.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Reset()
	if err := p.attrs.Handle(ctx, r); err != nil {
		return err
	}
	line := strings.TrimRight(fmt.Sprintf("%s %s: %s %s", clockText(r.Time), levelName(r.Level), r.Message, p.text), " \n")
	_, err := io.WriteString(p.out, line+"\n")
	return err
}

func (p *plain) WithAttrs(a []slog.Attr) slog.Handler {
	q := *p
	q.attrs = p.attrs.WithAttrs(a)
	return &q
}

func (p *plain) WithGroup(name string) slog.Handler {
	q := *p
	q.attrs = p.attrs.WithGroup(name)
	return &q
}

// rotating is a log file that begins anew when it is full: patroni.log, patroni.log.1, ...
type rotating struct {
	path string
	mode os.FileMode // 0: what the umask leaves of 0666
	most int64       // bytes
	keep int         // old files
	file *os.File
	size int64
	mu   sync.Mutex
}

func (r *rotating) open() error {
	mode := r.mode
	if mode == 0 {
		mode = 0o666
	}
	f, err := os.OpenFile(r.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && r.mode != 0 {
		err = f.Chmod(r.mode)
	}
	if err != nil {
		f.Close()
		return err
	}
	r.file, r.size = f, info.Size()
	return nil
}

func (r *rotating) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.most > 0 && r.keep > 0 && r.size > 0 && r.size+int64(len(b)) > r.most {
		r.rotate()
	}
	n, err := r.file.Write(b)
	r.size += int64(n)
	return n, err
}

// rotate shifts the old files by one. When that fails the present file goes on: better too long than lost.
func (r *rotating) rotate() {
	name := func(n int) string { return fmt.Sprintf("%s.%d", r.path, n) }
	for n := r.keep - 1; n > 0; n-- {
		_ = os.Rename(name(n), name(n+1))
	}
	old := r.file
	if os.Rename(r.path, name(1)) != nil || r.open() != nil {
		r.size = 0 // try again a file's length later
		return
	}
	old.Close()
}

func (r *rotating) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.file.Close()
}
