// Package deploy checks what lies in deploy/: the chart lints and its schema refuses mistakes, the kustomize base says what the
// chart says, and a real API server accepts both.
//
//	test/kube/run control -- go test ./deploy
package deploy
