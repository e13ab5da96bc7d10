package sim

import "time"

// random is a splitmix64 generator (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). It is
// ours so that a seed means the same with every version of Go.
type random struct{ state uint64 }

func newRandom(seed uint64) random { return random{seed*0x9e3779b97f4a7c15 + 0x1234567} }

func (r *random) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number in [0, n); 0 when n is not positive.
func (r *random) below(n int) int {
	if n <= 0 {
		return 0
	}
	return int(r.next() % uint64(n))
}

// chance is true with probability percent/100.
func (r *random) chance(percent int) bool { return r.below(100) < percent }

// between returns a duration in [low, high].
func (r *random) between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(r.next()%uint64(high-low+1))
}

// about returns a duration between half of d and twice d, the shorter ones more often.
func (r *random) about(d time.Duration) time.Duration {
	if r.next()&1 == 0 {
		return r.between(d/2, d)
	}
	return r.between(d, 2*d)
}

func choose[T any](r *random, list ...T) T { return list[r.below(len(list))] }
