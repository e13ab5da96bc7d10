// Package porttest finds ports for servers under test.
package porttest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Free is FreeInRow for one.
func Free(t testing.TB) int { return FreeInRow(t, 1) }

// FreeInRow returns the first of n free TCP ports in a row on the loopback, for a server that cannot choose one itself. They lie
// below the ports that outgoing connections use, and other tests keep away from them until this one ends.
func FreeInRow(t testing.TB, n int) int {
	t.Helper()
	for range 1000 {
		first := 20000 + rand.N(12000)
		if reserve(t, first, n) {
			return first
		}
	}
	t.Fatal("find free ports: none from 20000 to 32000")
	return 0
}

func reserve(t testing.TB, first, n int) bool {
	for port := first; port < first+n; port++ {
		// An abstract socket is a name that one process can hold (unix(7)).
		hold, err := net.Listen("unix", fmt.Sprintf("@regent-test-port-%d", port))
		if err != nil {
			return false
		}
		t.Cleanup(func() { hold.Close() })
		free, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		free.Close()
	}
	return true
}
