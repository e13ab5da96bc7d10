package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Can says why this machine allows no node. It tries what a node's beginning takes from the machine (namespaces, mounts, network
// devices, cgroups), not Kubernetes: what fails later is a failure.
func (m Machine) Can() (err error) {
	if os.Geteuid() != 0 {
		return errors.New("a node needs root: namespaces, mounts, a network of its own")
	}
	if err := m.unused(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Down()) }()
	if err := m.folders("log", "kubelet", "pods-log"); err != nil {
		return err
	}
	if err := makeCgroups(); err != nil {
		return err
	}
	pid, err := m.begin("trial", true)
	var status syscall.WaitStatus
	if err == nil {
		_, err = syscall.Wait4(pid, &status, 0, nil)
	}
	if err != nil || status != 0 {
		said, _ := os.ReadFile(filepath.Join(m.Dir, "log", "node.log"))
		return errors.Join(err, errors.New(strings.TrimPrefix(strings.TrimSpace(string(said)), "test/kube: ")))
	}
	return nil
}

// Trial is the first process of Can: it prepares a node as Inside does, and makes what kube-proxy and the pods' network are made of.
func (m Machine) Trial(cable *os.File) error {
	if err := m.prepare(cable); err != nil {
		return err
	}
	for _, call := range [][]string{
		{"ip", "link", "add", "bridge", "type", "bridge"},
		{"ip", "link", "add", "pod", "type", "veth", "peer", "name", "node"},
		{"nft", "add table ip trial; add chain ip trial nat { type nat hook output priority 0; }"},
	} {
		if err := run(call...); err != nil {
			return err
		}
	}
	layers, options := filepath.Join(m.Dir, "containerd"), []string{}
	for _, dir := range []string{"lowerdir", "upperdir", "workdir"} {
		options = append(options, dir+"="+filepath.Join(layers, dir))
		if err := os.MkdirAll(filepath.Join(layers, dir), 0o755); err != nil {
			return err
		}
	}
	if err := syscall.Mount("overlay", layers, "overlay", 0, strings.Join(options, ",")); err != nil {
		return fmt.Errorf("lay file systems over each other, as containers need: %w", err)
	}
	return nil
}
