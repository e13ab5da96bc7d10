package machine

import (
	"fmt"
	"path/filepath"
)

// part is a process of the cluster.
type part struct {
	name string
	path string
	args []string
}

// control is what the parts of a control plane listen on.
type control struct {
	address          string // of the API server
	port             int
	etcd, etcdPeer   int // on 127.0.0.1
	manager          int
	withNode         bool
	metricsAndHealth int // of the scheduler
}

func (m Machine) part(name string, args ...string) part {
	return part{name, filepath.Join(m.Bin(), name), args}
}

func (m Machine) etcd(c control) part {
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", c.etcd), fmt.Sprintf("http://127.0.0.1:%d", c.etcdPeer)
	return m.part("etcd", "--name=e", "--data-dir="+filepath.Join(m.Dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=e="+peer)
}

func (m Machine) apiserver(c control) part {
	args := []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", c.etcd), "--bind-address=" + c.address, fmt.Sprintf("--secure-port=%d", c.port),
		"--tls-cert-file=" + m.file("apiserver.crt"), "--tls-private-key-file=" + m.file("apiserver.key"), "--client-ca-file=" + m.file("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + m.file("service-accounts.pub"),
		"--service-account-signing-key-file=" + m.file("service-accounts.key"),
		"--authorization-mode=Node,RBAC", "--service-cluster-ip-range=" + m.serviceNet(), "--allow-privileged=true",
		"--event-ttl=1h", "--shutdown-delay-duration=0s",
	}
	if c.withNode {
		args = append(args, "--advertise-address="+m.NodeIP(), "--kubelet-certificate-authority="+m.file("ca.crt"),
			"--kubelet-client-certificate="+m.file("apiserver-kubelet.crt"), "--kubelet-client-key="+m.file("apiserver-kubelet.key"),
			"--kubelet-preferred-address-types=InternalIP", "--enable-admission-plugins=NodeRestriction")
	} else { // Endpoints must not name a loopback address: the server registers itself nowhere
		args = append(args, "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none")
	}
	return m.part("kube-apiserver", args...)
}

func (m Machine) file(name string) string { return filepath.Join(m.pki(), name) }

func (m Machine) manager(c control) part {
	return m.part("kube-controller-manager", "--kubeconfig="+m.file("controller-manager.kubeconfig"), "--leader-elect=false",
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", c.manager), "--use-service-account-credentials=true",
		"--service-account-private-key-file="+m.file("service-accounts.key"), "--root-ca-file="+m.file("ca.crt"),
		"--kube-api-qps=500", "--kube-api-burst=500", "--node-monitor-grace-period=20s")
}

func (m Machine) scheduler(c control) part {
	return m.part("kube-scheduler", "--kubeconfig="+m.file("scheduler.kubeconfig"), "--leader-elect=false", "--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", c.metricsAndHealth))
}

func (m Machine) kubelet() part {
	return m.part("kubelet", "--config="+filepath.Join(m.Dir, "kubelet.yaml"), "--kubeconfig="+m.file("kubelet.kubeconfig"),
		"--hostname-override="+NodeName, "--node-ip="+m.NodeIP(), "--root-dir="+filepath.Join(m.Dir, "kubelet"),
		"--cert-dir="+filepath.Join(m.Dir, "kubelet", "pki"))
}

// kubeletConfiguration. Root may lack CAP_SYS_RESOURCE, so the kubelet must neither ask for a negative OOM score nor for more
// open files than are allowed. A machine of tests may have a full disk or swap. Version 1.35 refuses cgroup v1 unless told.
func (m Machine) kubeletConfiguration(openFiles uint64) string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 0.0.0.0
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %[1]q}}
authorization: {mode: Webhook}
tlsCertFile: %[2]q
tlsPrivateKeyFile: %[3]q
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
volumePluginDir: %[4]q
cgroupDriver: cgroupfs
cgroupRoot: /%[5]s
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
maxOpenFiles: %[6]d
resolvConf: ""
clusterDomain: cluster.local
clusterDNS: [%[7]s]
evictionHard: {memory.available: 100Mi, nodefs.available: 0%%, nodefs.inodesFree: 0%%, imagefs.available: 0%%, imagefs.inodesFree: 0%%}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 5s
nodeLeaseDurationSeconds: 20
syncFrequency: 10s
`, m.file("ca.crt"), m.file("kubelet.crt"), m.file("kubelet.key"), filepath.Join(m.Dir, "kubelet", "plugins-exec"), Name, openFiles, m.NodeIP())
}

func (m Machine) proxy() part {
	return m.part("kube-proxy", "--config="+filepath.Join(m.Dir, "proxy.yaml"))
}

// proxyConfiguration. The limits of connection tracking are the whole machine's and cannot be set from inside.
func (m Machine) proxyConfiguration() string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
mode: nftables
clusterCIDR: %s
hostnameOverride: %s
oomScoreAdj: 0
clientConnection: {kubeconfig: %q}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, m.podNet(), NodeName, m.file("proxy.kubeconfig"))
}

func (m Machine) containerd() part {
	return part{"containerd", "containerd", []string{"--config", filepath.Join(m.Dir, "containerd.toml")}}
}

// containerdConfiguration. restrict_oom_score_adj: without CAP_SYS_RESOURCE every sandbox ends with runc's "can't get final
// child's PID from pipe: EOF" otherwise. hugetlb: a kernel need not have that controller.
func (m Machine) containerdConfiguration() string {
	return fmt.Sprintf(`version = 2
root = %[1]q
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = %[2]q
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`, filepath.Join(m.Dir, "containerd"), filepath.Join(m.Dir, "cni"))
}

func (m Machine) podNetwork() string {
	return fmt.Sprintf(`{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods0", "isGateway": true, "isDefaultGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": %q}]]}}]}
`, m.podNet())
}
