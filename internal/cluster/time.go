package cluster

import (
	"fmt"
	"strings"
	"time"
)

// FormatTime writes a time as Patroni does: ISO 8601 with its offset, microseconds only when there are any.
func FormatTime(t time.Time) string {
	if t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02T15:04:05-07:00")
	}
	return t.Format("2006-01-02T15:04:05.000000-07:00")
}

var timeLayouts = []string{
	"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07",
	"2006-01-02T15:04Z07:00", "2006-01-02T15:04Z0700", "2006-01-02T15:04Z07",
}

// ParseTime reads ISO 8601 with an offset; T or a blank between date and time, seconds may be missing.
// A time without an offset means another moment on every machine and is refused.
func ParseTime(text string) (time.Time, error) {
	s := strings.TrimSpace(text)
	if len(s) > 10 && s[10] == ' ' {
		s = s[:10] + "T" + s[11:]
	}
	s = strings.ReplaceAll(s, " ", "")
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("read time %q: want ISO 8601 with an offset, such as 2027-01-02T03:04:05+02:00", text)
}
