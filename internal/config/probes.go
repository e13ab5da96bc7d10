package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// probeTimeout bounds one connection, name look-up or program of a validation.
const probeTimeout = 3 * time.Second

// oldestPostgres is the oldest major version that we run.
const oldestPostgres = 13

// Probes are the questions that a validation asks the system. Tests bring their own.
type Probes struct {
	Resolve   func(host string) error             // nil: the name has an address
	Answers   func(address string) bool           // something accepts connections on host:port
	Version   func(postgres string) (text string) // output of "postgres --version"; empty: it does not run
	LookupBin func(name string) (path string)     // a program on the PATH; empty: there is none
}

func (p Probes) withDefaults() Probes {
	if p.Resolve == nil {
		p.Resolve = func(host string) error {
			ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
			defer cancel()
			_, err := net.DefaultResolver.LookupHost(ctx, host)
			return err
		}
	}
	if p.Answers == nil {
		p.Answers = func(address string) bool {
			c, err := net.DialTimeout("tcp", address, probeTimeout)
			if err != nil {
				return false
			}
			_ = c.Close()
			return true
		}
	}
	if p.Version == nil {
		p.Version = func(postgres string) string {
			ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
			defer cancel()
			out, err := exec.CommandContext(ctx, postgres, "--version").Output()
			if err != nil {
				return ""
			}
			return strings.TrimSpace(string(out))
		}
	}
	if p.LookupBin == nil {
		p.LookupBin = func(name string) string {
			path, err := exec.LookPath(name)
			if err != nil {
				return ""
			}
			return path
		}
	}
	return p
}

// listen checks an address to bind: each host has an address, and nobody answers on the port yet.
func listen(several bool) check {
	return func(v *validation, path string, value any) {
		hosts, port, ok := v.hostPort(path, value, several)
		if !ok {
			return
		}
		all := strings.Split(hosts, ",")
		if len(all) > 1 && slices.Contains(all, "*") {
			v.refuse(path, value, "expecting '*' alone")
			return
		}
		for _, host := range all {
			switch host {
			case "", "*", "0.0.0.0", "::":
				host = "localhost"
			}
			if v.options.DocumentOnly {
				continue
			}
			if err := v.probes.Resolve(host); err != nil {
				v.refuse(path, value, "%s", resolveText(err))
				return
			}
			if !v.options.IgnoreListenPort && v.probes.Answers(net.JoinHostPort(host, strconv.Itoa(port))) {
				v.refuse(path, value, "Port %d is already in use.", port)
				return
			}
		}
	}
}

func resolveText(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return "Name or service not known"
	}
	return err.Error()
}

// hostPort splits an address. Where several hosts are allowed, PostgreSQL has a default port.
func (v *validation) hostPort(path string, value any, several bool) (hosts string, port int, ok bool) {
	s, isText := value.(string)
	if !isText {
		v.report(path, value, "is not a string")
		return "", 0, false
	}
	defaultPort := -1
	if several {
		defaultPort = 5432
	}
	hosts, port, err := SplitHostPort(s, defaultPort)
	switch {
	case err != nil || !several && strings.Contains(hosts, ","):
		v.refuse(path, value, "contains a wrong value")
		return "", 0, false
	case port == -1: // no port: the name is looked at all the same
		var err error
		if !v.options.DocumentOnly {
			err = v.probes.Resolve(hosts)
		}
		if err != nil {
			v.refuse(path, value, "%s", resolveText(err))
		} else {
			v.refuse(path, value, "contains a wrong value")
		}
		return "", 0, false
	}
	return hosts, port, true
}

// connectAddress checks an address for others: it must not mean something else on their machine.
func connectAddress(v *validation, path string, value any) {
	s, ok := value.(string)
	if !ok {
		v.report(path, value, "is not a string")
		return
	}
	host, _, err := SplitHostPort(s, 1)
	if err != nil || strings.Contains(host, ",") {
		v.refuse(path, value, "contains a wrong value")
		return
	}
	// Whether others reach it there, a document alone does not tell.
	if !v.options.DocumentOnly && slices.Contains([]string{"127.0.0.1", "0.0.0.0", "*", "::1", "localhost"}, host) {
		v.refuse(path, value, `must not contain "127.0.0.1", "0.0.0.0", "*", "::1", "localhost"`)
	}
}

// address checks host:port and nothing behind it.
func address(v *validation, path string, value any) {
	s, ok := value.(string)
	if !ok {
		v.report(path, value, "is not a string")
	} else if _, port, err := SplitHostPort(s, -1); err != nil || port < 0 {
		v.refuse(path, value, "contains a wrong value")
	}
}

// reachable checks a host of etcd; a missing port is tried as Patroni's clients do later, by default.
func reachable(v *validation, path string, value any) { hostAt(2379)(v, path, value) }

func reachableHosts(v *validation, path string, value any) { reachableAt(2379)(v, path, value) }

func hostAt(otherwise int) check {
	return func(v *validation, path string, value any) { answers(v, path, value, otherwise) }
}

func answers(v *validation, path string, value any, otherwise int) {
	s, ok := value.(string)
	if !ok {
		v.report(path, value, "is not a string")
		return
	}
	host, port, err := SplitHostPort(s, otherwise)
	if err != nil {
		v.refuse(path, value, "contains a wrong value")
		return
	}
	if !v.options.DocumentOnly && !v.probes.Answers(net.JoinHostPort(host, strconv.Itoa(port))) {
		v.refuse(path, value, "%s is not reachable", s)
	}
}

// reachableAt checks hosts in a list or in one text.
func reachableAt(otherwise int) check {
	return func(v *validation, path string, value any) {
		if s, ok := value.(string); ok {
			for part := range strings.SplitSeq(s, ",") {
				answers(v, path, strings.TrimSpace(part), otherwise)
			}
			return
		}
		listOf(hostAt(otherwise))(v, path, value)
	}
}

// dataDir checks that the place is free or holds the data of a cluster.
func dataDir(v *validation, path string, value any) {
	dir, ok := value.(string)
	if !ok {
		v.report(path, value, "is not a string")
		return
	}
	if dir == "" {
		v.refuse(path, value, "is an empty string")
		return
	}
	if v.options.DocumentOnly {
		return
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		v.refuse(path, value, "%v", err)
		return
	case !info.IsDir():
		v.refuse(path, value, "is not a directory")
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		v.refuse(path, value, "%v", err)
		return
	}
	// dot-files and lost+found are what a file system or an operator leaves behind
	empty := !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name()[0] != '.' && e.Name() != "lost+found" })
	if empty {
		return
	}
	if _, err := os.Stat(filepath.Join(dir, "global", "pg_control")); err != nil {
		v.refuse(path, value, "doesn't look like a valid data directory")
		return
	}
	if info, err := os.Stat(filepath.Join(dir, "pg_wal")); err != nil || !info.IsDir() {
		v.refuse(path, value, `data dir for the cluster is not empty, but doesn't contain "pg_wal" directory`)
		return
	}
	data, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if err != nil {
		v.refuse(path, value, "doesn't look like a valid data directory")
		return
	}
	have := strings.TrimSpace(string(data))
	pg := v.document.Map("postgresql")
	want := majorVersion(v.probes.Version(v.program(pg, "postgres")))
	if want != 0 && have != strconv.Itoa(want) {
		v.refuse(path, value, "data_dir directory postgresql version (%s) doesn't match with 'postgres --version' output (%d)", have, want)
	}
}

// program is where a binary is, whether or not it exists.
func (v *validation) program(pg *Map, name string) string {
	file := word(pg.Map("bin_name"), name, name)
	if dir := word(pg, "bin_dir", ""); dir != "" {
		return filepath.Join(dir, file)
	}
	return v.probes.LookupBin(file)
}

var versionText = regexp.MustCompile(`([0-9]+)(\.[0-9]+|devel|beta[0-9]+|rc[0-9]+|$)`)

// majorVersion reads "postgres (PostgreSQL) 15.4 (Debian ...)"; 0 when there is none.
func majorVersion(text string) int {
	m := versionText.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

func binDir(v *validation, path string, value any) {
	dir, ok := value.(string)
	if !ok {
		v.report(path, value, "is not a string")
		return
	}
	if dir == "" || v.options.DocumentOnly {
		return // the PATH
	}
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		v.report(path, value, "Directory '%s' does not exist.", dir)
	} else if err != nil || !info.IsDir() {
		v.report(path, value, "'%s' is not a directory.", dir)
	}
}

// programs looks for the binaries, and for a version that we can run.
func programs(v *validation, path string, pg *Map) {
	if pg == nil || v.options.DocumentOnly {
		return
	}
	at := under(path, "bin_dir")
	dir := word(pg, "bin_dir", "")
	if info, err := os.Stat(dir); dir != "" && (err != nil || !info.IsDir()) {
		return // binDir has said so
	}
	v.origin = pg.Origin("bin_dir")
	for _, name := range binNames {
		if name == "pg_rewind" {
			continue // needed only by those who use it
		}
		file := v.program(pg, name)
		if _, err := os.Stat(file); file == "" || err != nil {
			where := dir
			if where == "" {
				where = "PATH"
			}
			v.report(at, dir, "does not contain '%s' in '%s'", word(pg.Map("bin_name"), name, name), where)
		}
	}
	file := v.program(pg, "postgres")
	if file == "" {
		return
	}
	text := v.probes.Version(file)
	if n := majorVersion(text); n != 0 && n < oldestPostgres {
		v.refuse(at, dir, "%s", fmt.Sprintf("PostgreSQL %d is too old, expected %d or newer", n, oldestPostgres))
	}
}
