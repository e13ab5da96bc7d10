package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/config"
)

// settings reads the section log as an agent would.
func settings(t *testing.T, text string) config.Log {
	t.Helper()
	doc, err := config.ParseYAML("test", []byte("{name: a, scope: b, postgresql: {data_dir: /nowhere}, log: "+text+"}"))
	if err != nil {
		t.Fatal(err)
	}
	s, _ := (&config.File{Document: doc.(*config.Map)}).ClientSettings()
	return s.Log
}

func TestRecords(t *testing.T) {
	for _, c := range []struct{ name, settings, want string }{
		{"default", "{}", `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING: renew the lock member=pg1 error="too slow" job.phase=copy\n$`},
		{"format", "{format: '[%(process)d] %(levelname)-8s %(name)s %(module)s.%(funcName)s:%(lineno)d %(message)s'}",
			`^\[\d+\] WARNING  regent.logging logging_test.func\d+:\d+ renew the lock member=pg1 error="too slow" job.phase=copy\n$`},
		{"no attributes", "{format: '%(levelno)s|%(msg)s|%(threadName)s|'}", `^30\|renew the lock\|\|\n$`},
		{"date", "{dateformat: '%d/%b/%Y %H:%M:%S %z'}", `^\d\d/[A-Z][a-z]{2}/\d{4} \d\d:\d\d:\d\d [+-]\d{4} WARNING: `},
		{"a list is for json", "{format: [message]}", `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING: renew`},
		{"json", "{type: json}", `^\{"asctime":"[^"]+,\d{3}","levelname":"WARNING","message":"renew the lock","member":"pg1","error":"too slow","job":\{"phase":"copy"\}\}\n$`},
		{"json fields", "{type: json, format: [message, {levelname: level}, {asctime: time}, lineno], static_fields: {z: 1, app: db}, dateformat: '%H'}",
			`^\{"message":"renew the lock","level":"WARNING","time":"\d\d","lineno":\d+,"app":"db","z":"1","member":"pg1",`},
		{"json, text format", "{type: json, format: '%(name)s %(msg)s'}", `^\{"name":"regent.logging","msg":"renew the lock","member":"pg1",`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			l, err := New(settings(t, c.settings), &out)
			if err != nil {
				t.Fatal(err)
			}
			l.Logger().With("member", "pg1", "error", errors.New("too slow")).WithGroup("job").Warn("renew the lock", "phase", "copy")
			if !regexp.MustCompile(c.want).MatchString(out.String()) {
				t.Errorf("have %q, want %s", out.String(), c.want)
			}
			if l.config.Type == "json" && !json.Valid(out.Bytes()) {
				t.Errorf("have %q, want JSON", out.String())
			}
		})
	}
}

func TestEveryAttributeHasAValue(t *testing.T) {
	var out bytes.Buffer
	l, err := New(settings(t, "{type: json, format: ["+strings.Join(config.LogAttributes, ", ")+"]}"), &out)
	if err != nil {
		t.Fatal(err)
	}
	l.Logger().Info("hello")
	fields := map[string]any{}
	if err := json.Unmarshal(out.Bytes(), &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range config.LogAttributes {
		if v, ok := fields[name]; !ok || v == "" {
			t.Errorf("%s: have %v, want a value", name, v)
		}
	}
}

func TestLevelsByPart(t *testing.T) {
	l, err := New(settings(t, "{level: warning, loggers: {regent.dcs: debug, regent.dcs.etcd: error, patroni.postmaster: INFO}}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for part, want := range map[string]string{
		"regent": "WARNING", "regent.agent": "WARNING", "regent.dcs": "DEBUG", "regent.dcs.embedded": "DEBUG", "regent.dcs.etcd": "ERROR", "regent.postgres": "INFO",
	} {
		if have := levelName(l.level(part)); have != want {
			t.Errorf("%s: have %s, want %s", part, have, want)
		}
	}
	if !l.Logger().Enabled(t.Context(), -4) {
		t.Error("debug records of one part do not come through")
	}
	for function, want := range map[string]string{
		packages + "dcs/etcd.(*Store).Watch.func1": "regent.dcs.etcd", packages + "postgres.New": "regent.postgres", "main.run": "regent", "runtime.goexit": "regent",
	} {
		if have := partOf(function); have != want {
			t.Errorf("%s: have %s, want %s", function, have, want)
		}
	}
}

// What an operator may name in log.loggers is what logs.
func TestPartsAreThePackagesThatLog(t *testing.T) {
	files, err := filepath.Glob("../*/*.go")
	deeper, _ := filepath.Glob("../*/*/*.go")
	if err != nil || len(deeper) == 0 {
		t.Fatalf("have no sources: %v", err)
	}
	parts := []string{"regent", "regent.dcs"} // the latter for all below it
	for _, name := range append(files, deeper...) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") || !regexp.MustCompile(`\b[lL]og\.(Debug|Info|Warn|Error|Log|LogAttrs)\(`).Match(text) {
			continue
		}
		parts = append(parts, partOf(packages+strings.TrimPrefix(filepath.Dir(name), "../")+".f"))
	}
	slices.Sort(parts)
	if have := slices.Compact(parts); !slices.Equal(have, config.LoggerParts) {
		t.Errorf("have %v, want %v", have, config.LoggerParts)
	}
}

func TestFileRotates(t *testing.T) {
	dir := t.TempDir()
	l, err := New(config.Log{Dir: dir, Mode: 0o640, FileSize: 100, FileNum: 2, Format: settings(t, "{}").Format}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		l.Logger().Info("a line of some length")
	}
	l.Close()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 3 {
		t.Errorf("have %v, %v, want patroni.log and two old files", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode() != 0o640 {
		t.Errorf("have %v, %v, want mode 0640", info.Mode(), err)
	}
}

func TestConfigureAnew(t *testing.T) {
	var stderr bytes.Buffer
	dir := t.TempDir()
	l, err := New(settings(t, "{}"), &stderr)
	if err != nil {
		t.Fatal(err)
	}
	log := l.Logger().With("member", "pg1")
	say := func(text string) { log.Debug(text) }
	take := func(text string) error { return l.Configure(settings(t, text)) }
	say("hidden")
	file := fmt.Sprintf("{level: debug, type: json, format: [msg], dir: %s}", dir)
	if err := take(file); err != nil {
		t.Fatal(err)
	}
	say("in the file")
	if err := take("{dir: " + filepath.Join(dir, "missing") + "}"); err == nil || !strings.Contains(err.Error(), "log.dir") {
		t.Errorf("have %v, want an error about log.dir", err)
	}
	say("still there")
	if err := take("{level: debug, format: '%(message)s'}"); err != nil {
		t.Fatal(err)
	}
	say("back again")
	text, err := os.ReadFile(filepath.Join(dir, "patroni.log"))
	if want := "{\"msg\":\"in the file\",\"member\":\"pg1\"}\n{\"msg\":\"still there\",\"member\":\"pg1\"}\n"; err != nil || string(text) != want {
		t.Errorf("have %q, %v, want %q", text, err, want)
	}
	if want := "back again member=pg1\n"; stderr.String() != want {
		t.Errorf("have %q, want %q", stderr.String(), want)
	}
}

func TestStrftime(t *testing.T) {
	at := time.Date(2026, 3, 7, 16, 5, 9, 42_000_000, time.FixedZone("CET", 3600))
	for format, want := range map[string]string{
		"":                     "2026-03-07 16:05:09,042",
		"%Y-%m-%d %H:%M:%S %z": "2026-03-07 16:05:09 +0100",
		"%a %e %b %y %I%p %j":  "Sat  7 Mar 26 04PM 066",
		"%FT%T%Z %s 100%% %Q%": "2026-03-07T16:05:09CET 1772895909 100% %Q%",
	} {
		if have := strftime(at, format); have != want {
			t.Errorf("%s: have %q, want %q", format, have, want)
		}
	}
}
