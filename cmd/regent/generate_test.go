package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/porttest"
	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(firstProcess) != "" {
		os.Exit(inContainer())
	}
	pgtest.Main(m)
}

// neutral takes out of a generated file what differs between machines, and the comments, which the recordings lack.
func neutral(text string) string {
	text = regexp.MustCompile(`(?m)^ *#.*\n`).ReplaceAllString(text, "")
	text = regexp.MustCompile(`(?m)^name: .*$`).ReplaceAllString(text, "name: myhost")
	return regexp.MustCompile(`(?m)(connect_address|listen): \S+:`).ReplaceAllString(text, "$1: 127.0.0.1:")
}

func TestGenerateSample(t *testing.T) {
	_, _, want, _, _ := sections(t, "testdata/generate/generate-sample.txt")
	// Beside sync_priority its own validator refuses it.
	want = strings.Replace(strings.TrimRight(want, "\n")+"\n", "  nosync: false\n", "", 1)
	var out, errs bytes.Buffer
	if code := patroniWith([]string{"--generate-sample-config"}, nil, &out, &errs, noMember); code != 0 || errs.Len() > 0 {
		t.Fatalf("exit %d, %s", code, &errs)
	}
	have := neutral(out.String())
	a, err := config.ParseYAML("generated", []byte(have))
	if err != nil {
		t.Fatal(err)
	}
	b, err := config.ParseYAML("recorded", []byte(want))
	if err != nil {
		t.Fatal(err)
	}
	if !config.Equal(a, b) || !slices.Equal(a.(*config.Map).Keys(), b.(*config.Map).Keys()) {
		t.Errorf("have\n%s\nwant\n%s", have, want)
	}
}

func TestGeneratedSampleIsValidOnceFilledIn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "regent.yml")
	var out, errs bytes.Buffer
	env := []string{"PATRONI_SCOPE=demo", "PATRONI_NAME=pg1", "PATRONI_POSTGRESQL_DATA_DIR=/nowhere", "PATRONI_SUPERUSER_PASSWORD=hush"}
	if code := patroniWith([]string{"--generate-sample-config", path}, env, &out, &errs, noMember); code != 0 || out.Len() > 0 {
		t.Fatalf("exit %d, %s%s", code, &out, &errs)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("have %v, %v, want a file that only its owner reads", info, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"scope: demo\n", "name: pg1\n", "data_dir: /nowhere\n", "password: hush\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("have\n%s\nwant %q in it, from the environment", text, want)
		}
	}
	file, err := config.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if problems := config.Validate(file, config.Options{DocumentOnly: true}); len(problems) > 0 {
		t.Errorf("have %v, want none", problems)
	}
}

func TestGenerateFromRunningServer(t *testing.T) {
	s := pgtest.New(t)
	s.Configure(t, "cluster_name = demo\nwork_mem = '7MB'\nrestore_command = '/bin/true %p'\n")
	if err := os.WriteFile(filepath.Join(s.Dir, "pg_hba.conf"), []byte("# who may\nlocal all all trust\nhost  all all   127.0.0.1/32 trust\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
	path := filepath.Join(t.TempDir(), "regent.yml")
	var out, errs bytes.Buffer
	dsn := "host=127.0.0.1 user=postgres password=secret dbname=postgres port=" + strconv.Itoa(s.Port)
	if code := patroniWith([]string{"--generate-config", "--dsn", dsn, path}, nil, &out, &errs, noMember); code != 0 || errs.Len() > 0 {
		t.Fatalf("exit %d, %s", code, &errs)
	}
	file, err := config.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	get := func(keys ...string) string { return config.Text(file.Document.Get(keys...)) }
	shared := []string{"bootstrap", "dcs", "postgresql", "parameters"}
	for _, c := range []struct {
		want string
		path []string
	}{
		{"demo", []string{"scope"}},
		{s.Dir, []string{"postgresql", "data_dir"}},
		{s.BinDir, []string{"postgresql", "bin_dir"}},
		{"127.0.0.1:" + strconv.Itoa(s.Port), []string{"postgresql", "listen"}},
		{"['local all all trust', 'host all all 127.0.0.1/32 trust']", []string{"postgresql", "pg_hba"}},
		{"{'restore_command': '/bin/true %p'}", []string{"postgresql", "parameters"}},
		{"secret", []string{"postgresql", "authentication", "superuser", "password"}},
		{"#FIXME", []string{"postgresql", "authentication", "replication", "username"}},
		{"7MB", append(shared, "work_mem")},
		{"30", append(shared, "max_connections")},
		{"0", append(shared, "max_prepared_transactions")}, // a default, and managed
		{"None", append(shared, "jit")},                    // a default
		{"None", append(shared, "cluster_name")},
		{"None", append(shared, "port")},
	} {
		if have := get(c.path...); have != c.want {
			t.Errorf("%s: have %s, want %s", strings.Join(c.path, "."), have, c.want)
		}
	}
	if !strings.HasSuffix(get("postgresql", "connect_address"), ":"+strconv.Itoa(s.Port)) {
		t.Errorf("have connect_address %s, want port %d", get("postgresql", "connect_address"), s.Port)
	}
}

func TestGenerateWithoutServer(t *testing.T) {
	var out, errs bytes.Buffer
	code := patroniWith([]string{"--generate-config", "--dsn", "host=127.0.0.1 user=postgres password=hush port=" + strconv.Itoa(porttest.Free(t))}, nil, &out, &errs, noMember)
	if code != 1 || out.Len() > 0 || !strings.Contains(errs.String(), "connect to the running server") || strings.Contains(errs.String(), "hush") {
		t.Errorf("exit %d, %s%s", code, &out, &errs)
	}
}
