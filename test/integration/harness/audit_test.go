package harness

import (
	"testing"
	"time"
)

func at(seconds float64) time.Time {
	return time.Unix(1000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

func row(id int64, member string, timeline uint32, sent, acked float64) Ack {
	return Ack{ID: id, Member: member, Timeline: timeline, Sent: at(sent), Acked: at(acked)}
}

func TestTwoPrimaries(t *testing.T) {
	tests := map[string]struct {
		acks []Ack
		want int
	}{
		"one after the other":        {[]Ack{row(1, "a", 1, 0, 1), row(2, "b", 2, 2, 3), row(3, "a", 3, 4, 5)}, 0},
		"answered late":              {[]Ack{row(1, "a", 1, 0, 4), row(2, "b", 2, 2, 3)}, 0},
		"the old one goes on":        {[]Ack{row(1, "a", 1, 0, 1), row(2, "b", 2, 2, 3), row(3, "a", 1, 3.1, 3.2)}, 1},
		"one timeline, two members":  {[]Ack{row(1, "a", 1, 0, 1), row(2, "b", 1, 2, 3)}, 1},
		"order of noting is no time": {[]Ack{row(2, "b", 2, 2, 3), row(4, "b", 2, 1.5, 1.7), row(3, "a", 1, 1.8, 1.9)}, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if have := TwoPrimaries(tt.acks); len(have) != tt.want {
				t.Errorf("have %q, want %d problems", have, tt.want)
			}
		})
	}
}

func TestOutage(t *testing.T) {
	acks := []Ack{row(1, "a", 1, 0, 1), row(3, "b", 2, 8, 9), row(2, "a", 1, 1, 2)}
	if have := Outage(acks); have != (Span{at(2), at(9)}) {
		t.Errorf("have %v, want from 2 to 9", have)
	}
	if have := OutageSince(acks, at(5)); have != (Span{at(5), at(9)}) {
		t.Errorf("have %v, want from 5 to 9", have)
	}
}
