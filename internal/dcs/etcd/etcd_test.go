package etcd_test

import (
	"testing"

	"github.com/regent-ha/regent/internal/dcs/dcstest"
	"github.com/regent-ha/regent/internal/dcs/etcd/etcdtest"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

func TestContract(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t, "http")
	etcdtest.WaitReady(t, server.Address)
	dcstest.Run(t, func(t testing.TB) dcstest.Harness { return etcdtest.Harness(t, server.Address) })
}
