// Package scenario runs the first page of the design on a real node: the chart is installed as `cluster` in namespace
// `stackgres`, pods are deleted in every way, and a writer behind the primary Service counts what that costs.
//
//	test/kube/run node -- go test ./scenario -v
//
// Each step ends when the cluster has healed: one leader, every other member streaming from it on its timeline, labels and
// Endpoints say so, all pods are ready, no acknowledged row is missing.
package scenario
