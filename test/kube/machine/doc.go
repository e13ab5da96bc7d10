// Package machine brings up Kubernetes on one machine without a container registry: either its control plane alone
// (etcd, API server, controller manager on 127.0.0.1, without root), or a cluster of one real node with kubelet, containerd
// and kube-proxy in namespaces of its own (root).
//
// Everything that a cluster writes lies below its Dir, everything that is built below Cache. A cluster ends with Down,
// whatever became of it: its processes are known by number and start time, its namespaces end with their first process.
//
// Sources: kubernetes.io "Kubernetes Components" and the manual pages of the parts; namespaces(7), pid_namespaces(7).
package machine
