package machine

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestCertificatesAreOfOneAuthority(t *testing.T) {
	m := Machine{Dir: t.TempDir(), Net: "10.197"}
	if err := m.certificates("https://10.197.0.2:6443", "10.197.0.2"); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(m.file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for name, host := range map[string]string{
		"apiserver": "10.197.0.2", "kubelet": NodeName, "admin": "", "proxy": "", "scheduler": "", "controller-manager": "", "apiserver-kubelet": "",
	} {
		pair, err := tls.LoadX509KeyPair(m.file(name+".crt"), m.file(name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDownEndsWhatWasRemembered(t *testing.T) {
	m := Machine{Dir: filepath.Join(t.TempDir(), "state")}
	if err := m.folders("log"); err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := m.remember(child.Process.Pid); err != nil {
		t.Fatal(err)
	}
	p := m.processes()[0]
	if !p.alive() {
		t.Error("the process should be known as alive")
	}
	if (process{p.pid, p.start + "1"}).alive() {
		t.Error("another start time is another process")
	}
	if err := m.Down(); err != nil {
		t.Fatal(err)
	}
	if p.alive() {
		t.Error("the process is still there")
	}
	if _, err := os.Stat(m.Dir); err == nil {
		t.Error("the folder is still there")
	}
	if err := m.Down(); err != nil {
		t.Error("a second time:", err)
	}
}

func TestUnusedRefusesARunningCluster(t *testing.T) {
	m := Machine{Dir: t.TempDir()}
	if err := m.remember(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if err := m.unused(); err == nil {
		t.Error("a folder with a living process must be refused")
	}
}
