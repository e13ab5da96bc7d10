package image

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func names(t *testing.T, file string) []string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h.Name)
	}
}

func TestEveryPathStandsOnceAfterItsFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "layer.tar")
	err := WriteLayer(file, []Entry{Text("usr/bin/a", "x"), Folder("usr/", 0o700, 1), Link("bin", "usr/bin"), Text("./usr/bin/a", "y"), Text("usr/bin/b", "")})
	if err != nil {
		t.Fatal(err)
	}
	if have, want := names(t, file), []string{"usr/", "usr/bin/", "usr/bin/a", "bin", "usr/bin/b"}; !slices.Equal(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
}

func TestTheSameEntriesGiveTheSameBytes(t *testing.T) {
	var content [2]string
	for i := range content {
		source := filepath.Join(t.TempDir(), "source") // another time of writing
		file := filepath.Join(t.TempDir(), "layer.tar")
		if err := os.WriteFile(source, []byte("program"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := WriteLayer(file, []Entry{File("bin/p", source, 0o755)}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		content[i] = string(b)
	}
	if content[0] != content[1] {
		t.Error("two layers of the same entries differ")
	}
}

func TestPackagesArePlacedBelowUsr(t *testing.T) {
	for from, want := range map[string]string{
		"./lib/x86_64-linux-gnu/libc.so.6": "usr/lib/x86_64-linux-gnu/libc.so.6", "./bin/": "usr/bin", "./usr/lib/p": "usr/lib/p", "./etc/x": "etc/x", "./": "",
		"./lib64/ld.so": "usr/lib64/ld.so", "./libs/x": "libs/x",
	} {
		if have := place(from); have != want {
			t.Errorf("%s: have %q, want %q", from, have, want)
		}
	}
}

func TestUnwanted(t *testing.T) {
	for name, want := range map[string]bool{
		"libllvm14_1%3a14.0.6-12_amd64.deb": true, "libpam0g_1.5.2_amd64.deb": false, "libpam-modules_1.5.2_amd64.deb": true, "postgresql-15_15.20_amd64.deb": false,
		"postgresql-common_248_all.deb": true, "postgresql-client-15_15.20_amd64.deb": false, "perl-base_5.36_amd64.deb": true, "libssl3_3.0_amd64.deb": false,
		"libicu72_72.1-3_amd64.deb": false, "mawk_1.3_amd64.deb": false,
	} {
		if have := unwanted.MatchString(name); have != want {
			t.Errorf("%s: left out %t, want %t", name, have, want)
		}
	}
}
