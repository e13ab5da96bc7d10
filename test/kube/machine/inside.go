package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/regent-ha/regent/test/kube/image"
)

// covered are folders outside Dir that Kubernetes and containerd insist on; the node sees empty file systems there.
var covered = []string{"/var/lib/cni", "/var/lib/kubelet"}

// settings are the whole machine's, and the kubelet insists on them: it finds files that only look like them.
var settings = map[string]string{
	"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
}

// Inside is the node's first process: it mounts, starts the parts, starts again what ended, and reaps orphans. With its end
// everything in the node ends.
func (m Machine) Inside(cable *os.File) error {
	if err := m.prepare(cable); err != nil {
		return err
	}
	return m.run()
}

// prepare makes a node of the namespaces that this process is the first of.
func (m Machine) prepare(cable *os.File) error {
	if os.Getpid() != 1 {
		return errors.New("expected to be the first process of a node")
	}
	if err := m.mounts(); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(NodeName)); err != nil {
		return err
	}
	if _, err := cable.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("wait for the cable to the machine: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return err
	}
	// A pod's answer to a pod on the same bridge must pass the node's rules, or it comes from another address than was asked.
	// There is no such setting where the kernel's br_netfilter is not loaded.
	if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1"), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// run starts the parts and keeps them.
func (m Machine) run() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"kubelet.yaml": m.kubeletConfiguration(limit.Max), "proxy.yaml": m.proxyConfiguration(),
		"containerd.toml": m.containerdConfiguration(), "cni/10-bridge.conflist": m.podNetwork(),
	} {
		if err := os.WriteFile(filepath.Join(m.Dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	c := control{address: "0.0.0.0", port: 6443, etcd: 2379, etcdPeer: 2380, manager: 10257, metricsAndHealth: 10259, withNode: true}
	k := keeper{machine: m, running: map[int]part{}}
	for _, p := range []part{m.etcd(c), m.apiserver(c), m.containerd()} {
		if err := k.start(p); err != nil {
			return err
		}
	}
	if err := m.pause(); err != nil {
		return err
	}
	if err := until("the API server", m.kubectlArgs("get", "--raw", "/readyz")...); err != nil {
		return err
	}
	admin := []string{"--kubeconfig", m.Kubeconfig()}
	for _, p := range []part{
		m.manager(c), m.scheduler(c), m.kubelet(), m.proxy(),
		m.part("local-volumes", append(admin, "--node", NodeName, "--dir", filepath.Join(m.Dir, "volumes"))...),
		m.part("cluster-dns", append(admin, "--listen", m.NodeIP()+":53")...),
	} {
		if err := k.start(p); err != nil {
			return err
		}
	}
	return k.keep()
}

func (m Machine) kubectlArgs(args ...string) []string {
	return append([]string{filepath.Join(m.Bin(), "kubectl"), "--kubeconfig", m.Kubeconfig()}, args...)
}

func (m Machine) mounts() error {
	mount := func(source, target, kind string, flags uintptr, data string) error {
		if err := syscall.Mount(source, target, kind, flags, data); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
		return nil
	}
	err := errors.Join(
		mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""), // nothing of ours reaches the machine
		mount("proc", "/proc", "proc", 0, ""),
		mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""), // volumes must show in pods
		mount("run", "/run", "tmpfs", 0, "mode=755"),
		mount("log", "/var/log", "tmpfs", 0, "mode=755"),
		os.MkdirAll("/run/netns", 0o755), os.MkdirAll("/var/log/pods", 0o755), os.MkdirAll("/var/log/containers", 0o755),
		mount(filepath.Join(m.Dir, "pods-log"), "/var/log/pods", "", syscall.MS_BIND, ""),
	)
	for _, d := range covered {
		err = errors.Join(err, os.MkdirAll(d, 0o755), mount("node", d, "tmpfs", 0, "mode=755"))
	}
	for name, value := range settings {
		file := filepath.Join("/run/settings", name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(value+"\n"), 0o644),
			mount(file, "/proc/sys/"+name, "", syscall.MS_BIND, ""))
	}
	return err
}

// pause makes the image of sandboxes and gives it to containerd, as soon as that answers.
func (m Machine) pause() error {
	archive := filepath.Join(m.Dir, "pause.tar")
	layer := filepath.Join(m.Dir, "pause-layer.tar")
	if err := image.WriteLayer(layer, []image.Entry{image.File("pause", filepath.Join(m.Cache, "pause"), 0o755)}); err != nil {
		return err
	}
	if err := image.Write(archive, image.Image{Name: "localhost/pause:1", Layers: []string{layer}, Entrypoint: []string{"/pause"}}); err != nil {
		return err
	}
	return until("containerd", "ctr", "-n", "k8s.io", "images", "import", archive)
}

// until repeats a command until it succeeds.
func until(what string, call ...string) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		out, err := exec.Command(call[0], call[1:]...).CombinedOutput()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for %s: %w: %s", what, err, out)
		}
	}
}

// keeper starts the parts again when they end; a file hold/NAME puts that off, so that a test can take a part away.
type keeper struct {
	machine Machine
	running map[int]part
}

func (k *keeper) start(p part) error {
	out, err := os.OpenFile(filepath.Join(k.machine.Dir, "log", p.name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	path, err := exec.LookPath(p.path)
	if err != nil {
		return err
	}
	child, err := os.StartProcess(path, append([]string{p.path}, p.args...), &os.ProcAttr{Files: []*os.File{nil, out, out}, Env: os.Environ()})
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	k.running[child.Pid] = p
	if err := os.WriteFile(k.machine.pidFile(p.name), []byte(strconv.Itoa(child.Pid)), 0o644); err != nil {
		return err
	}
	return child.Release()
}

// keep reaps children for ever. Polling, since parts that are held back produce no event.
func (k *keeper) keep() error {
	var ended []part
	for ; ; time.Sleep(20 * time.Millisecond) {
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if err == syscall.EINTR {
				continue
			}
			if err != nil || pid <= 0 {
				break
			}
			if p, ours := k.running[pid]; ours {
				delete(k.running, pid)
				ended = append(ended, p)
				fmt.Printf("%s %s ended: %v\n", time.Now().Format(time.TimeOnly), p.name, status)
			}
		}
		var held []part
		for _, p := range ended {
			if _, err := os.Stat(k.machine.holdFile(p.name)); err == nil {
				held = append(held, p)
				continue
			}
			time.Sleep(200 * time.Millisecond) // one that cannot run must not take the machine
			if err := k.start(p); err != nil {
				return err
			}
		}
		ended = held
	}
}

func (m Machine) holdFile(name string) string { return filepath.Join(m.Dir, "hold", name) }
func (m Machine) pidFile(name string) string  { return filepath.Join(m.Dir, "log", name+".pid") }

// Hold kills a part of the node's cluster, which stays away until Free.
func (m Machine) Hold(ctx context.Context, name string) error {
	pid, err := os.ReadFile(m.pidFile(name))
	if err != nil {
		return fmt.Errorf("hold %s: %w", name, err)
	}
	if err := os.WriteFile(m.holdFile(name), nil, 0o644); err != nil {
		return err
	}
	kill, err := m.Enter(ctx, "kill", "-KILL", string(pid)) // its number counts inside
	if err != nil {
		return err
	}
	if out, err := kill.CombinedOutput(); err != nil {
		return fmt.Errorf("hold %s: %w: %s", name, err, out)
	}
	return nil
}

// Free lets a part that was held start again.
func (m Machine) Free(name string) error { return os.Remove(m.holdFile(name)) }
