package machine

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// version of Kubernetes, as go.mod says. Without the linker's flags it would take itself for v0.0.0-master.
const version = "1.34.4"

// names under which box is called.
var names = []string{"kubectl", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "local-volumes", "cluster-dns"}

// Build makes box, pause and helm, unless they are there and of these sources. With empty caches of the compiler it takes
// ten minutes of processor time, and 5 GB of memory while it links.
func (m Machine) Build(log io.Writer) error {
	stamp, err := m.stamp()
	if err != nil || m.made(stamp) {
		return err
	}
	if err := os.MkdirAll(m.Bin(), 0o755); err != nil {
		return err
	}
	fmt.Fprintf(log, "building Kubernetes %s (once; many minutes with a cold cache)\n", version)
	minor := strings.Split(version, ".")[1]
	flags := "-s -w"
	for _, p := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags += fmt.Sprintf(" -X %[1]s.gitVersion=v%[2]s -X %[1]s.gitMajor=1 -X %[1]s.gitMinor=%[3]s -X %[1]s.gitTreeState=clean -X %[1]s.gitCommit=0 -X %[1]s.buildDate=1970-01-01T00:00:00Z", p, version, minor)
	}
	for _, b := range []struct{ pkg, out, flags string }{
		{"./pause", filepath.Join(m.Cache, "pause"), "-s -w"},
		{"helm.sh/helm/v3/cmd/helm", filepath.Join(m.Bin(), "helm"), helmFlags()},
		{"./box", m.box(), flags},
	} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", b.flags, "-o", b.out+".new", b.pkg)
		cmd.Dir, cmd.Stdout, cmd.Stderr = m.Source, log, log
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build %s: %w", b.pkg, err)
		}
		if err := os.Rename(b.out+".new", b.out); err != nil { // the old one may be running
			return err
		}
	}
	for _, name := range names {
		link := filepath.Join(m.Bin(), name)
		_ = os.Remove(link)
		if err := os.Symlink("../box", link); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(m.Cache, "stamp"), []byte(stamp), 0o644)
}

// Built says why there is nothing to bring up yet.
func (m Machine) Built() error {
	stamp, err := m.stamp()
	if err == nil && !m.made(stamp) {
		err = errors.New("have no Kubernetes of these sources; make kube-build makes it, in ten minutes of processor time")
	}
	return err
}

func (m Machine) made(stamp string) bool {
	old, err := os.ReadFile(filepath.Join(m.Cache, "stamp"))
	return err == nil && string(old) == stamp
}

// helmFlags tell helm which Kubernetes there is: it takes it for 1.20 otherwise, and refuses charts for later ones.
func helmFlags() string {
	flags := "-s -w"
	for _, p := range []string{"chartutil", "lint/rules"} {
		flags += fmt.Sprintf(" -X helm.sh/helm/v3/pkg/%[1]s.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/%[1]s.k8sVersionMinor=%[2]s", p, strings.Split(version, ".")[1])
	}
	return flags
}

// stamp tells the sources of what is built apart from others.
func (m Machine) stamp() (string, error) {
	h := sha256.New()
	out, err := exec.Command("go", "version").Output()
	if err != nil {
		return "", fmt.Errorf("go version: %w", err)
	}
	fmt.Fprintf(h, "%s %s %s\n", out, version, helmFlags())
	for _, pattern := range []string{"go.mod", "go.sum", "box/*.go", "pause/*.go"} {
		files, err := filepath.Glob(filepath.Join(m.Source, pattern))
		if err != nil {
			return "", err
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(h, "%s %d\n%s", filepath.Base(f), len(b), b)
		}
	}
	return fmt.Sprintf("%x\n", h.Sum(nil)), nil
}
