// Package trouble shows what the program does with what is wrong around it: one clear message that says what happened, what was
// expected and what to do, an exit code where it cannot go on, and nothing changed or wiped.
package trouble

import (
	"testing"

	"github.com/regent-ha/regent/test/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }
