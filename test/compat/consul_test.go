package compat

import (
	"os"
	"testing"

	"github.com/regent-ha/regent/internal/dcs/consul/consultest"
)

func startConsul(t *testing.T) place {
	t.Helper()
	return place{"consul: {host: '" + consultest.Start(t, nil).Address + "', register_service: on}\n"}
}

func needConsul(t *testing.T) {
	t.Helper()
	needPatroni(t)
	consultest.Program(t)
	if _, err := os.Stat("/usr/lib/python3/dist-packages/consul"); err != nil {
		t.Skip("no python3-consul on this machine (Debian: apt install python3-consul): Patroni cannot use Consul")
	}
}

// The way of docs/operations/move-from-patroni.md on a Consul.
func TestMoveInPlaceOnConsul(t *testing.T) {
	needConsul(t)
	t.Parallel()
	movesOn(t, startConsul(t))
}

// A cluster of both kinds on a Consul, as TestMixedOnZooKeeper.
func TestMixedOnConsul(t *testing.T) {
	needConsul(t)
	mixedOn(t, startConsul)
}
