package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Machine is where clusters live and what they are made of.
type Machine struct {
	Source string // the folder test/kube
	Cache  string // what is built once: box, pause, helm, Debian packages
	Dir    string // the state of the running cluster
	Net    string // first two bytes of the addresses of a cluster with a node
}

// Name is the node's cgroup and the machine's end of the cable to it: at most 15 bytes, the limit of an interface's name.
const Name = "regent-kube"

// limit of every wait: it says nothing about speed, it only ends what would go on for ever.
const limit = 5 * time.Minute

// NodeName is the only node's.
const NodeName = "node1"

// At is the machine for a kind of cluster, "control" or "node". Settings come from the environment: REGENT_CACHE,
// REGENT_KUBE_DIR, REGENT_KUBE_NET.
func At(source, kind string) Machine {
	return Machine{
		Source: source,
		Cache:  filepath.Join(setting("REGENT_CACHE", filepath.Join(source, "../../.cache")), "kube"),
		Dir:    filepath.Join(setting("REGENT_KUBE_DIR", "/var/tmp/regent-kube"), kind),
		Net:    setting("REGENT_KUBE_NET", "10.197"),
	}
}

func setting(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func (m Machine) box() string        { return filepath.Join(m.Cache, "box") }
func (m Machine) pki() string        { return filepath.Join(m.Dir, "pki") }
func (m Machine) Kubeconfig() string { return filepath.Join(m.Dir, "pki", "admin.kubeconfig") }

// Bin is a folder with kubectl and helm, to be put into the PATH.
func (m Machine) Bin() string { return filepath.Join(m.Cache, "bin") }

// The addresses of a cluster with a node. A cable joins the node to the machine; pods and Services are routed through it.
func (m Machine) hostIP() string       { return m.Net + ".0.1" }
func (m Machine) NodeIP() string       { return m.Net + ".0.2" }
func (m Machine) podNet() string       { return m.Net + ".1.0/24" }
func (m Machine) serviceNet() string   { return m.Net + ".128.0/17" }
func (m Machine) serviceFirst() string { return m.Net + ".128.1" }

func (m Machine) folders(names ...string) error {
	for _, n := range names {
		if err := os.MkdirAll(filepath.Join(m.Dir, n), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// unused refuses a Dir in which a cluster runs, and clears one that was left behind.
func (m Machine) unused() error {
	for _, p := range m.processes() {
		if p.alive() {
			return fmt.Errorf("%s: a cluster runs there (process %d); end it first: test/kube/run down", m.Dir, p.pid)
		}
	}
	return m.Down()
}
