package image

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// wanted are the packages that the image is made of, beside what they depend on.
var wanted = []string{
	"base-files", "bash", "dash", "coreutils", "findutils", "grep", "sed", "tar", "gzip", "mawk", "hostname", "procps", "libc-bin", "tzdata",
}

// unwanted packages are dependencies that nothing in the image uses: PostgreSQL's wrappers for several clusters on a machine,
// compilation at run time (110 MB of LLVM), and what only installing needs.
var unwanted = regexp.MustCompile(`^(libllvm|libz3|perl|libperl|libgdbm|libdb5|postgresql-common|postgresql-client-common|ssl-cert|adduser|passwd|` +
	`debconf|cdebconf|dpkg|apt|sensible-utils|ucf|netbase|libjson-perl|openssl$|init-system-helpers|lsb|sysvinit|util-linux|mount|login|libpam-modules|libdebconf|logsave|libtext|libnewt|libslang)`)

// omitted are files of packages that nobody reads in a container.
var omitted = regexp.MustCompile(`^(usr/share/(doc|man|info|locale|lintian|bug|perl5|postgresql-common)|usr/lib/postgresql/[0-9]+/lib/bitcode|var/cache|var/lib/dpkg|usr/share/bash-completion)(/|$)|/llvmjit`)

// Debian is a layer of Debian's own packages: a small system with PostgreSQL of this machine's release. The packages are
// fetched by apt into cache, once, and unpacked without running their scripts; what those would have made stands here.
// It returns the layer and PostgreSQL's major version. Packages that apt serves anew lead to a new layer.
func Debian(cache string, log io.Writer) (layerFile, postgres string, err error) {
	archives := filepath.Join(cache, "debs")
	if err := os.MkdirAll(filepath.Join(archives, "partial"), 0o755); err != nil {
		return "", "", err
	}
	if err := fetch(archives, log); err != nil {
		return "", "", err
	}
	packages, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return "", "", err
	}
	packages = slices.DeleteFunc(packages, func(p string) bool { return unwanted.MatchString(filepath.Base(p)) })
	slices.Sort(packages)
	for _, p := range packages {
		if m := regexp.MustCompile(`^postgresql-([0-9]+)_`).FindStringSubmatch(filepath.Base(p)); m != nil {
			postgres = m[1]
		}
	}
	if postgres == "" {
		return "", "", fmt.Errorf("%s: no package postgresql-N was fetched", archives)
	}
	file := filepath.Join(cache, fmt.Sprintf("debian-%.8x.tar", sha256.Sum256([]byte(strings.Join(packages, "\n")+unwanted.String()+omitted.String()))))
	if _, err := os.Stat(file); err == nil {
		return file, postgres, nil
	}
	fmt.Fprintf(log, "packing %d Debian packages\n", len(packages))
	return file, postgres, writeLayer(file, func(l *layer) error {
		for _, e := range skeleton(postgres) {
			if err := l.add(e); err != nil {
				return err
			}
		}
		for _, p := range packages {
			if err := l.unpack(p); err != nil {
				return fmt.Errorf("unpack %s: %w", filepath.Base(p), err)
			}
		}
		return nil
	})
}

// fetch downloads the wanted packages and all that they depend on, as though nothing were installed. What is there already
// is not fetched again.
func fetch(archives string, log io.Writer) error {
	empty := filepath.Join(archives, "status")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		return err
	}
	args := append([]string{
		"--download-only", "--yes", "--no-install-recommends", "-o", "Dir::State::status=" + empty,
		"-o", "Dir::Cache::archives=" + archives, "-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=root", "install", "postgresql",
	}, wanted...)
	cmd := exec.Command("apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fetch Debian packages: %w; is apt-get update needed? %s", err, out)
	}
	return nil
}

// skeleton is what the scripts of the packages make at installation, as far as PostgreSQL needs it.
func skeleton(postgres string) []Entry {
	entries := []Entry{
		Folder("usr", 0o755, 0), Folder("tmp", 0o1777, 0), Folder("run", 0o755, 0), Folder("var", 0o755, 0), Folder("proc", 0o755, 0),
		Folder("sys", 0o755, 0), Folder("dev", 0o755, 0), Folder("etc", 0o755, 0), Folder("etc/patroni", 0o755, 0),
		Folder("var/lib/postgresql", 0o700, 999), Folder("run/postgresql", 0o775, 999),
		Link("var/run", "../run"), Link("usr/bin/awk", "mawk"), Link("usr/bin/sh", "dash"),
		Text("etc/passwd", "root:x:0:0:root:/root:/bin/bash\npostgres:x:999:999:PostgreSQL:/var/lib/postgresql:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"),
		Text("etc/group", "root:x:0:\npostgres:x:999:\nnogroup:x:65534:\n"),
		Text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
		Text("etc/postgresql-common/createcluster.conf", "create_main_cluster = false\n"),
	}
	for _, name := range merged {
		entries = append(entries, Folder("usr/"+name, 0o755, 0), Link(name, "usr/"+name))
	}
	for _, program := range []string{"psql", "pg_ctl", "pg_controldata", "pg_basebackup", "pg_rewind", "initdb", "postgres", "pg_isready", "pg_waldump", "pg_dump"} {
		entries = append(entries, Link("usr/bin/"+program, "../lib/postgresql/"+postgres+"/bin/"+program))
	}
	return entries
}

// merged folders are links into usr; packages of this release still name the old places.
var merged = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"}

func (l *layer) unpack(deb string) error {
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", deb)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = l.copy(tar.NewReader(pipe))
	_, _ = io.Copy(io.Discard, pipe)
	return errors.Join(err, cmd.Wait())
}

func (l *layer) copy(from *tar.Reader) error {
	for {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		h.Name = place(h.Name)
		if h.Name == "" || omitted.MatchString(h.Name) {
			continue
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = place(h.Linkname)
		}
		if err := l.put(h, from); err != nil {
			return err
		}
	}
}

// place is where a path of a package lies in a system whose /bin is a link into /usr.
func place(name string) string {
	name = strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	first, _, _ := strings.Cut(name, "/")
	if slices.Contains(merged, first) {
		return "usr/" + name
	}
	return name
}
