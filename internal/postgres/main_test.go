package postgres

import (
	"testing"

	"github.com/regent-ha/regent/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
