package logging

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// entry is a record with what Python's formatter would know of it.
type entry struct {
	slog.Record
	clock   string // asctime
	message string // with the attributes, in a plain line
	part    string // of the agent: "regent.postgres"
	source  runtime.Frame
}

var begun, pid = time.Now(), os.Getpid()

func newEntry(r slog.Record) entry {
	e := entry{Record: r, message: r.Message, part: program}
	if r.PC != 0 {
		e.source, _ = runtime.CallersFrames([]uintptr{r.PC}).Next()
		e.part = partOf(e.source.Function)
	}
	return e
}

// bare is the record with its attributes alone.
func (e entry) bare() slog.Record {
	r := e.Record
	r.Time, r.Message = time.Time{}, ""
	return r
}

const program, packages = "regent", "github.com/regent-ha/regent/internal/"

// partOf names the package of a function: "regent.dcs.etcd". What wires the agent together is "regent".
func partOf(function string) string {
	path, ours := strings.CutPrefix(function, packages)
	if !ours {
		return program
	}
	slash := strings.LastIndexByte(path, '/') + 1
	name, _, _ := strings.Cut(path[slash:], ".")
	return program + "." + strings.ReplaceAll(path[:slash], "/", ".") + name
}

// attribute is the value of one of config.LogAttributes, empty for another name.
func (e entry) attribute(name string) any {
	file := filepath.Base(e.source.File)
	switch name {
	case "asctime":
		return e.clock
	case "created":
		return float64(e.Time.UnixMicro()) / 1e6
	case "filename":
		return file
	case "funcName":
		return e.source.Function[strings.LastIndexByte(e.source.Function, '.')+1:]
	case "levelname":
		return levelName(e.Level)
	case "levelno":
		return levelNumber(e.Level)
	case "lineno":
		return e.source.Line
	case "message":
		return e.message
	case "module":
		return strings.TrimSuffix(file, ".go")
	case "msecs":
		return float64(e.Time.Nanosecond()) / 1e6
	case "msg":
		return e.Message
	case "name":
		return e.part
	case "pathname":
		return e.source.File
	case "process":
		return pid
	case "relativeCreated":
		return float64(e.Time.Sub(begun).Microseconds()) / 1e3
	default:
		return ""
	}
}

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "DEBUG"
	case l < slog.LevelWarn:
		return "INFO"
	case l < slog.LevelError:
		return "WARNING"
	default:
		return "ERROR"
	}
}

// levelNumber is Python's number of the level.
func levelNumber(l slog.Level) int {
	return map[string]int{"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}[levelName(l)]
}
