package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const defaultLogFormat = "%(asctime)s %(levelname)s: %(message)s"

// LogPiece is a part of log.format: text as it stands, or an attribute of the record.
type LogPiece struct {
	Text      string
	Attribute string // of Python's log records; empty: Text
	Output    string // its key in a JSON record
	layout    string // flags, width and precision as fmt has them: "-8"
	letter    string // Python's conversion
}

// Format prints a value of the piece's attribute.
func (p LogPiece) Format(value any) string {
	switch {
	case strings.Contains("dixXo", p.letter):
		if n, ok := number64(value); ok {
			return fmt.Sprintf("%"+p.layout+strings.Replace(p.letter, "i", "d", 1), int64(n))
		}
	case strings.Contains("fFeEgG", p.letter):
		if n, ok := number64(value); ok {
			return fmt.Sprintf("%"+p.layout+p.letter, n)
		}
	}
	return fmt.Sprintf("%"+p.layout+"v", value)
}

func number64(v any) (float64, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// LogAttributes are the attributes of Python's log records that have a meaning in this agent.
var LogAttributes = []string{"asctime", "created", "filename", "funcName", "levelname", "levelno", "lineno", "message", "module", "msecs",
	"msg", "name", "pathname", "process", "relativeCreated"}

// pythonOnly are those without one: no thread or task of ours has a name, and errors have no stack traces.
var pythonOnly = []string{"args", "exc_info", "exc_text", "processName", "stack_info", "taskName", "thread", "threadName"}

var pythonFormat = regexp.MustCompile(`%(?:%|\((\w*)\)[#]?([-+ 0]*\d*(?:\.\d+)?)([a-zA-Z]))`)

// logPieces reads Python's %-format.
func logPieces(format string) (pieces []LogPiece) {
	add := func(p LogPiece) {
		if p != (LogPiece{}) {
			pieces = append(pieces, p)
		}
	}
	at := 0
	for _, m := range pythonFormat.FindAllStringSubmatchIndex(format, -1) {
		add(LogPiece{Text: format[at:m[0]]})
		at = m[1]
		if m[2] < 0 {
			add(LogPiece{Text: "%"})
			continue
		}
		name := format[m[2]:m[3]]
		add(LogPiece{Attribute: name, Output: name, layout: format[m[4]:m[5]], letter: format[m[6]:m[7]]})
	}
	add(LogPiece{Text: format[at:]})
	return pieces
}

// logFields are the attributes that a list or a text asks for, in its order.
func logFields(value any) (fields []LogPiece) {
	if text, ok := value.(string); ok {
		for _, p := range logPieces(text) {
			if p.Attribute != "" {
				fields = append(fields, p)
			}
		}
		return fields
	}
	for _, o := range options(value) {
		p := LogPiece{Attribute: o.Name, Output: o.Name, letter: "s"}
		if !o.Flag {
			p.Output = o.Value
		}
		fields = append(fields, p)
	}
	return fields
}

// logFormatDoubts warns of what a format cannot get from us.
func logFormatDoubts(v *validation, path string, value any) {
	for _, f := range logFields(value) {
		switch {
		case slices.Contains(LogAttributes, f.Attribute):
		case slices.Contains(pythonOnly, f.Attribute):
			v.warn(path, "%s belongs to Python and stays empty here", f.Attribute)
		default:
			v.warn(path, "%s is no attribute of a log record and stays empty; have %s", f.Attribute, strings.Join(LogAttributes, ", "))
		}
	}
}

// LoggerParts are the parts of the agent that log.loggers can name, with what is below them.
var LoggerParts = []string{"regent", "regent.agent", "regent.dcs", "regent.dcs.consul", "regent.dcs.embedded", "regent.dcs.etcd", "regent.dcs.kubernetes", "regent.dcs.zookeeper",
	"regent.guard", "regent.postgres", "regent.proxy", "regent.rest", "regent.watchdog"}

// patroniParts are Patroni's modules that have a counterpart, each with what is below it.
var patroniParts = map[string]string{
	"patroni.api": "regent.rest", "patroni.dcs": "regent.dcs", "patroni.dcs.etcd3": "regent.dcs.etcd", "patroni.dcs.kubernetes": "regent.dcs.kubernetes",
	"patroni.dcs.consul": "regent.dcs.consul", "patroni.dcs.zookeeper": "regent.dcs.zookeeper",
	"patroni.dcs.raft": "regent.dcs.embedded", "patroni.ha": "regent.agent", "patroni.postgresql": "regent.postgres",
	"patroni.postmaster": "regent.postgres", // so in Patroni's manual
	"patroni.watchdog":   "regent.watchdog",
}

// LoggerPart finds the part of the agent that a name in log.loggers means: one of ours, or the nearest counterpart of a module of Patroni's.
func LoggerPart(name string) (part string, ok bool) {
	if slices.Contains(LoggerParts, name) {
		return name, true
	}
	if name == "patroni" {
		return "regent", true
	}
	for strings.Contains(name, ".") {
		if part, ok := patroniParts[name]; ok {
			return part, true
		}
		name = name[:strings.LastIndexByte(name, '.')]
	}
	return "", false
}
