package config

import (
	"strings"
	"testing"
)

func TestLogFormat(t *testing.T) {
	values := map[string]any{"levelname": "INFO", "message": "hello", "msecs": 7.9, "process": 42, "created": 1.5}
	for format, want := range map[string]string{
		defaultLogFormat:                        " INFO: hello",
		"%(levelname)-8s|%(levelname).2s|":      "INFO    |IN|",
		"%(levelname)8s|100%%|%(process)05d":    "    INFO|100%|00042",
		"%(created)f %(created).1f %(msecs)03d": "1.500000 1.5 007",
		"%(process)s %(message)d %(message)r":   "42 hello hello",
		"no attribute %d %(open":                "no attribute %d %(open",
		"%(thread)d [%(nosuch)5s]":              " [     ]",
	} {
		var b strings.Builder
		for _, p := range logPieces(format) {
			if p.Attribute == "" {
				b.WriteString(p.Text)
				continue
			}
			v := values[p.Attribute]
			if v == nil {
				v = ""
			}
			b.WriteString(p.Format(v))
		}
		if b.String() != want {
			t.Errorf("%s: have %q, want %q", format, b.String(), want)
		}
	}
}

func TestLogDoubts(t *testing.T) {
	for text, want := range map[string]string{
		"{}": "",
		"{traceback_level: ERROR, max_queue_size: 1000, deduplicate_heartbeat_logs: true}": "",
		"{format: '%(asctime)s %(levelname)s: %(message)s', type: plain}":                  "",
		"{format: '%(threadName)s %(message)s'}":                                           "log.format threadName belongs to Python",
		"{format: '%(mesage)s'}":                                                           "log.format mesage is no attribute",
		"{format: [message]}":                                                              "log.format is a list, which only type json understands",
		"{type: json, format: [message, {levelname: level}]}":                              "",
		"{type: json, format: [taskName]}":                                                 "log.format taskName belongs to Python",
		"{static_fields: {a: b}}":                                                          "log.static_fields has no effect without type json",
		"{traceback_level: debug}":                                                         "log.traceback_level has no effect",
		"{max_queue_size: 5}":                                                              "log.max_queue_size has no effect",
		"{deduplicate_heartbeat_logs: false}":                                              "",
		"{loggers: {patroni.postmaster: WARNING, patroni: DEBUG, regent.rest: INFO}}":      "",
		"{loggers: {urllib3: DEBUG}}":                                                      "log.loggers.urllib3 names no part of this agent",
		"{loggers: {patroni.request: DEBUG}}":                                              "log.loggers.patroni.request names no part of this agent",
		"{loggers: {regent: loud}}":                                                        "log.loggers.regent loud didn't pass validation",
	} {
		doc := parse(t, "log: "+text)
		var have []string
		for _, p := range Validate(&File{Document: doc}, Options{DocumentOnly: true}) {
			if strings.HasPrefix(p.Path, "log") {
				have = append(have, strings.Join(strings.Fields(p.Path+" "+p.Value+" "+p.Message), " "))
			}
		}
		if joined := strings.Join(have, "\n"); (joined == "") != (want == "") || !strings.HasPrefix(joined, want) || len(have) > 1 {
			t.Errorf("%s: have %q, want %q", text, joined, want)
		}
	}
}
