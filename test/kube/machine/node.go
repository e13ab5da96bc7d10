package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// objects are what a fresh cluster with a node gets: kube-proxy signs in with its own certificate; two classes of volumes.
const objects = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kube-proxy}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-proxier"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:kube-proxy"}]
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: local, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: regent-ha/local-volumes
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Retain
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: bounded}
provisioner: regent-ha/local-volumes
parameters: {bounded: "true"}
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Retain
`

// Node brings up a cluster of one real node, as root. The node has its own mounts, network, processes and host name, and this
// machine's files: it leaves the machine's ports, firewall, settings and mounts alone. A cable (veth) joins the two, so that
// pods and Services are reached from the machine; there is no way out of the node.
func (m Machine) Node(ctx context.Context, bound bool, log io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("a node needs root: namespaces, mounts, a network of its own")
	}
	if err := m.unused(); err != nil {
		return err
	}
	began := time.Now()
	if err := m.folders("etcd", "log", "kubelet", "containerd", "cni", "pods-log", "volumes", "hold"); err != nil {
		return err
	}
	if err := m.certificates("https://"+m.NodeIP()+":6443", m.NodeIP()); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	if err := makeCgroups(); err != nil {
		return err
	}
	if _, err := m.begin("inside", bound); err != nil {
		return errors.Join(err, m.Down())
	}
	if err := m.ready(ctx); err != nil {
		return err
	}
	fmt.Fprintf(log, "API server ready after %.1f s\n", time.Since(began).Seconds())
	apply := m.Kubectl(ctx, "apply", "-f", "-")
	apply.Stdin = strings.NewReader(objects)
	if out, err := apply.CombinedOutput(); err != nil {
		return fmt.Errorf("make the objects of a fresh cluster: %w: %s", err, out)
	}
	if err := m.Wait(ctx, limit, "the node", "get", "node", NodeName); err != nil {
		return err
	}
	if err := m.Wait(ctx, limit, "the node to be ready", "wait", "--for=condition=Ready", "node/"+NodeName, "--timeout=5s"); err != nil {
		return err
	}
	fmt.Fprintf(log, "node ready after %.1f s\n", time.Since(began).Seconds())
	return nil
}

// begin starts the node's first process, which does what the command of that name says, and lays the cable to it.
func (m Machine) begin(command string, bound bool) (pid int, err error) {
	out, err := os.Create(filepath.Join(m.Dir, "log", "node.log"))
	if err != nil {
		return 0, err
	}
	defer out.Close()
	wait, cable, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer wait.Close()
	defer cable.Close()
	first := exec.Command("/proc/self/exe", command)
	first.Env = append(os.Environ(), "REGENT_KUBE_SOURCE="+m.Source)
	first.Stdout, first.Stderr, first.ExtraFiles = out, out, []*os.File{wait}
	first.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS,
		Setsid:     true,
	}
	if bound {
		first.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if err := first.Start(); err != nil {
		return 0, fmt.Errorf("start the node's first process: %w", err)
	}
	pid = first.Process.Pid
	if err := m.remember(pid); err != nil {
		return 0, err
	}
	inside := []string{"nsenter", "-t", strconv.Itoa(pid), "-n"}
	for _, call := range [][]string{
		{"ip", "link", "add", Name, "type", "veth", "peer", "name", "uplink", "netns", strconv.Itoa(pid)},
		{"ip", "address", "add", m.hostIP() + "/24", "dev", Name},
		{"ip", "link", "set", Name, "up"},
		append(inside, "ip", "link", "set", "lo", "up"),
		append(inside, "ip", "address", "add", m.NodeIP()+"/24", "dev", "uplink"),
		append(inside, "ip", "link", "set", "uplink", "up"),
		{"ip", "route", "replace", m.podNet(), "via", m.NodeIP()},
		{"ip", "route", "replace", m.serviceNet(), "via", m.NodeIP()},
	} {
		if err := run(call...); err != nil {
			return 0, err
		}
	}
	_, err = cable.Write([]byte{1})
	return pid, err
}

// run hides the exit code: that of a command of ours says how the command ended that it ran for its caller.
func run(call ...string) error {
	if out, err := exec.Command(call[0], call[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %v: %s", strings.Join(call, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// hierarchies are the mount points of cgroup controllers: one for each with version 1, one for all with version 2.
func hierarchies() []string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup"}
	}
	found, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	for i := range found {
		found[i] = filepath.Dir(found[i])
	}
	return found
}

// makeCgroups gives the cluster a cgroup of its own in each hierarchy, for its pods.
func makeCgroups() error {
	for _, h := range hierarchies() {
		if exists(filepath.Join(h, "cpuset.cpus")) { // version 1: else a child's sets are empty and nothing runs in it
			if err := os.WriteFile(filepath.Join(h, "cgroup.clone_children"), []byte("1"), 0o644); err != nil {
				return err
			}
		}
		dir := filepath.Join(h, Name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make a cgroup: %w", err)
		}
		// All pods together count as one process of the machine otherwise, and starve where many others run. Version 1 only.
		if shares := filepath.Join(dir, "cpu.shares"); exists(shares) {
			if err := os.WriteFile(shares, []byte("16384"), 0o644); err != nil {
				return err
			}
		}
		if controllers, err := os.ReadFile(filepath.Join(h, "cgroup.controllers")); err == nil { // version 2
			all := "+" + strings.Join(strings.Fields(string(controllers)), " +")
			for _, d := range []string{h, dir} {
				_ = os.WriteFile(filepath.Join(d, "cgroup.subtree_control"), []byte(all), 0o644)
			}
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Enter is a command inside the node.
func (m Machine) Enter(ctx context.Context, call ...string) (*exec.Cmd, error) {
	all := m.processes()
	if len(all) == 0 || !all[0].alive() {
		return nil, fmt.Errorf("%s: no node runs there", m.Dir)
	}
	args := append([]string{"-t", strconv.Itoa(all[0].pid), "-m", "-n", "-p", "-u", "--"}, call...)
	return exec.CommandContext(ctx, "nsenter", args...), nil
}

// Import gives an image to the node's containerd.
func (m Machine) Import(ctx context.Context, archive string) error {
	cmd, err := m.Enter(ctx, "ctr", "-n", "k8s.io", "images", "import", archive)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("import %s: %w: %s", archive, err, out)
	}
	return nil
}
