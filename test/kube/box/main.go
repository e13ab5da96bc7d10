// Command box is all of Kubernetes in one program, in the manner of busybox: the first argument, or the name that it was
// called by, says which part to be. One program links its libraries once: 0.2 GB instead of 0.6.
//
// The parts are Kubernetes' own (etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubectl),
// and two small ones that a cluster without a cloud and without a registry needs: local-volumes and cluster-dns.
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// parts holds what each name runs; the files of this package fill it. A part takes over os.Args as if it were a program of
// its own and returns its exit code.
var parts = map[string]func() int{}

func main() {
	name := filepath.Base(os.Args[0])
	if parts[name] == nil && len(os.Args) > 1 {
		name, os.Args = os.Args[1], os.Args[1:]
	}
	part := parts[name]
	if part == nil {
		fmt.Fprintf(os.Stderr, "usage: box PART [ARGUMENTS]\nparts: %v\n", slices.Sorted(maps.Keys(parts)))
		os.Exit(2)
	}
	os.Exit(part())
}

// failed says why a part of ours ends.
func failed(part string, err error) int {
	fmt.Fprintf(os.Stderr, "%s: %v\n", part, err)
	return 1
}
