// Package integration runs whole clusters of real agents, PostgreSQL servers and etcd, breaks them, and looks at what an
// application sees.
package integration

import (
	"flag"
	"testing"

	"github.com/regent-ha/regent/test/integration/harness"
)

func TestMain(m *testing.M) {
	// These tests wait for expiries most of the time, they do not compute.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	harness.Main(m)
}
