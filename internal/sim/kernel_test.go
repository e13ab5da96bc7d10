package sim

import (
	"slices"
	"testing"
	"time"
)

func TestEventsHappenInOrder(t *testing.T) {
	k := kernel{rand: newRandom(7)}
	var want, have []int64
	for range 1000 {
		at := int64(k.rand.below(300))
		want = append(want, at)
		k.at(at, nil, func() { have = append(have, k.now) })
	}
	slices.Sort(want)
	for k.step(1 << 40) {
	}
	if !slices.Equal(have, want) {
		t.Error("events happen at other times than they were made for")
	}
}

func TestEventsOfOneMomentHappenAsTheyWereMade(t *testing.T) {
	var k kernel
	var have []int
	for i := range 100 {
		k.at(5, nil, func() { have = append(have, i) })
	}
	for k.step(5) {
	}
	if !slices.IsSorted(have) || len(have) != 100 {
		t.Errorf("have %v", have)
	}
}

func TestFrozenProcessHearsLater(t *testing.T) {
	var k kernel
	var p process
	var have []string
	say := func(s string) func() { return func() { have = append(have, s) } }
	k.at(10, &p, say("a"))
	k.at(20, &p, say("b"))
	k.at(15, nil, say("other"))
	p.freeze()
	k.at(100, nil, func() { k.thaw(&p) })
	for k.step(1000) {
	}
	if want := []string{"other", "a", "b"}; !slices.Equal(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
	k.at(2000, &p, say("late"))
	p.kill()
	k.at(2001, &p, say("later"))
	for k.step(3000) {
	}
	if len(have) != 3 {
		t.Errorf("a killed process heard %v", have[3:])
	}
}

func TestClockOfAHost(t *testing.T) {
	k := kernel{now: int64(time.Hour)}
	for _, ppm := range []int64{-200, 0, 200} {
		c := clock{k: &k, boot: int64(42 * time.Hour), ppm: ppm}
		deadline := c.now().Add(30 * time.Second)
		at := c.when(deadline)
		k.now = at
		if off := c.now().Sub(deadline); off < -10*time.Microsecond || off > 10*time.Microsecond {
			t.Errorf("%d ppm: at the moment for %s it is %s off", ppm, deadline, off)
		}
		k.now = int64(time.Hour)
	}
}
