// Package logging writes the agent's log as the section log says (config.md section 6): plain lines in Python's %-format or one JSON object
// per record, on standard error or in a file that rotates, with levels by part of the agent. The names are those that log collectors know
// from Patroni; attributes of our own follow the message.
//
// A record is written before the call returns, so none is lost and there is no queue. Methods may be called from any goroutine.
package logging

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/regent-ha/regent/internal/config"
)

// Log is where records go. It can be configured anew while others write.
type Log struct {
	stderr io.Writer
	least  atomic.Int64 // the lowest level of any part: what is below need not be looked at

	mu     sync.Mutex // guards what follows, and makes a record one write
	config config.Log
	file   *rotating // nil: standard error
	text   bytes.Buffer
}

// New opens the log.
func New(c config.Log, stderr io.Writer) (*Log, error) {
	l := &Log{stderr: stderr}
	return l, l.Configure(c)
}

// Logger is the front of the log.
func (l *Log) Logger() *slog.Logger { return slog.New(&handler{log: l}) }

// Configure puts other settings into force. When it fails the old ones go on to count.
func (l *Log) Configure(c config.Log) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if reflect.DeepEqual(c, l.config) {
		return nil
	}
	var file *rotating
	if c.Dir != "" {
		file = &rotating{path: filepath.Join(c.Dir, "patroni.log"), mode: os.FileMode(c.Mode), most: c.FileSize, keep: c.FileNum}
		if err := file.open(); err != nil {
			return fmt.Errorf("open the log file: %w; log.dir must exist and be writable", err)
		}
	}
	l.close()
	l.config, l.file = c, file
	least := levelOf(c.Level)
	for _, word := range c.Loggers {
		least = min(least, levelOf(word))
	}
	l.least.Store(int64(least))
	return nil
}

// Close closes the file. What is logged after it goes to standard error.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close()
}

func (l *Log) close() {
	if l.file != nil {
		l.file.close()
	}
	l.file = nil
}

// level is that of the nearest part above that has one of its own.
func (l *Log) level(part string) slog.Level {
	for {
		if word, ok := l.config.Loggers[part]; ok {
			return levelOf(word)
		}
		dot := strings.LastIndexByte(part, '.')
		if dot < 0 {
			return levelOf(l.config.Level)
		}
		part = part[:dot]
	}
}

// handler is a slog.Handler. with are the attributes and groups that were added to it, to be laid over whatever writes in the moment
// of a record.
type handler struct {
	log  *Log
	with []func(slog.Handler) slog.Handler
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return int64(level) >= h.log.least.Load()
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	e := newEntry(r)
	l := h.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Level < l.level(e.part) {
		return nil
	}
	e.clock = strftime(r.Time, l.config.DateFormat)
	l.text.Reset()
	write := h.plain
	if l.config.Type == "json" {
		write = h.json
	}
	if err := write(ctx, e); err != nil {
		return err
	}
	var out io.Writer = l.stderr
	if l.file != nil {
		out = l.file
	}
	_, err := out.Write(l.text.Bytes())
	return err
}

// plain writes "2026-01-31 12:00:00,123 INFO: message key=value", or as the format says. The attributes belong to the message.
func (h *handler) plain(ctx context.Context, e entry) error {
	text := &h.log.text
	var attrs slog.Handler = slog.NewTextHandler(text, &slog.HandlerOptions{Level: everything, ReplaceAttr: withoutBuiltins})
	if err := h.over(attrs).Handle(ctx, e.bare()); err != nil {
		return err
	}
	e.message = strings.TrimRight(e.Message+" "+text.String(), " \n")
	text.Reset()
	for _, p := range h.log.config.Format {
		if p.Attribute == "" {
			text.WriteString(p.Text)
		} else {
			text.WriteString(p.Format(e.attribute(p.Attribute)))
		}
	}
	text.WriteByte('\n')
	return nil
}

// json writes the fields that the format names, then the static ones, then the attributes.
func (h *handler) json(ctx context.Context, e entry) error {
	var fields []slog.Attr
	for _, p := range h.log.config.Fields {
		fields = append(fields, slog.Any(p.Output, e.attribute(p.Attribute)))
	}
	for _, name := range slices.Sorted(maps.Keys(h.log.config.StaticFields)) {
		fields = append(fields, slog.String(name, h.log.config.StaticFields[name]))
	}
	var out slog.Handler = slog.NewJSONHandler(&h.log.text, &slog.HandlerOptions{Level: everything, ReplaceAttr: withoutBuiltins})
	return h.over(out.WithAttrs(fields)).Handle(ctx, e.bare())
}

func (h *handler) over(base slog.Handler) slog.Handler {
	for _, add := range h.with {
		base = add(base)
	}
	return base
}

func (h *handler) WithAttrs(a []slog.Attr) slog.Handler {
	return h.adding(func(base slog.Handler) slog.Handler { return base.WithAttrs(a) })
}

func (h *handler) WithGroup(name string) slog.Handler {
	return h.adding(func(base slog.Handler) slog.Handler { return base.WithGroup(name) })
}

func (h *handler) adding(f func(slog.Handler) slog.Handler) slog.Handler {
	return &handler{log: h.log, with: append(slices.Clip(h.with), f)}
}

// withoutBuiltins leaves out what slog itself writes of a bare record; fields and attributes may have the same keys.
func withoutBuiltins(groups []string, a slog.Attr) slog.Attr {
	_, level := a.Value.Any().(slog.Level)
	if len(groups) == 0 && (a.Key == slog.LevelKey && level || a.Key == slog.MessageKey && a.Value.String() == "") {
		return slog.Attr{}
	}
	return a
}

const everything = slog.Level(-1 << 30)

func levelOf(word string) slog.Level {
	switch word {
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
