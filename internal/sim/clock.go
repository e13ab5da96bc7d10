package sim

import "time"

// clock is one host's: what its programs read is not true time.
type clock struct {
	k    *kernel
	boot int64 // offset of the boot-time clock; anew at each boot
	wall int64 // offset of the wall clock, in Unix nanoseconds
	ppm  int64 // how much too fast both run, parts per million
}

func (c *clock) elapsed() int64 { return c.k.now + c.k.now/1_000_000*c.ppm }

// now is the boot-time clock.
func (c *clock) now() time.Time { return time.Unix(0, c.boot+c.elapsed()) }

// date is the wall clock.
func (c *clock) date() time.Time { return time.Unix(0, c.wall+c.elapsed()).UTC() }

// when is the true moment at which the boot-time clock will show t.
func (c *clock) when(t time.Time) moment {
	left := t.UnixNano() - c.boot - c.elapsed()
	if left <= 0 {
		return c.k.now
	}
	return c.k.now + left - left/1_000_000*c.ppm
}
