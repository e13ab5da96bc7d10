package ctl

import (
	"regexp"
	"strings"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

var (
	dateLayouts = []string{"2006-01-02", "2006/01/02", "20060102", "02 Jan 2006", "2 January 2006", "Jan 2 2006", "January 2 2006"}
	timeLayouts = []string{"", "15:04:05", "15:04", "15", "150405", "1504", "3:04PM", "3PM"}
	zoneLayouts = []string{"Z07:00", "Z0700", "Z07"}
	blanks      = regexp.MustCompile(`\s+`)
)

// parseSchedule reads a moment that a person typed; nil is now. Without a zone it is local time, without
// a date it is today (ctl.md section 7).
func (p *Program) parseSchedule(text string) (*time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" || strings.EqualFold(text, "now") {
		return nil, nil
	}
	clean := blanks.ReplaceAllString(strings.ReplaceAll(text, ",", " "), " ")
	if len(clean) > 10 && clean[10] == 'T' {
		clean = clean[:10] + " " + clean[11:]
	}
	now := p.Now()
	for _, clock := range timeLayouts {
		for _, zone := range append([]string{""}, zoneLayouts...) {
			if clock == "" && zone != "" {
				continue
			}
			for _, gap := range []string{"", " "} {
				if at, ok := parseOn(clean, clock, zone, gap, now); ok {
					return &at, nil
				}
			}
		}
	}
	return nil, sentence("Unable to parse scheduled timestamp (%s). It should be in an unambiguous format (e.g. ISO 8601)", text)
}

func parseOn(text, clock, zone, gap string, now time.Time) (time.Time, bool) {
	clock = strings.TrimSpace(clock + gap + zone)
	for _, date := range dateLayouts {
		if at, err := time.ParseInLocation(strings.TrimSpace(date+" "+clock), text, now.Location()); err == nil {
			return withOffset(at, zone), true
		}
	}
	if !strings.Contains(clock, ":") {
		return time.Time{}, false
	}
	at, err := time.ParseInLocation("2006-01-02 "+clock, now.Format("2006-01-02 ")+text, now.Location())
	return withOffset(at, zone), err == nil
}

// withOffset keeps the offset that was written: Go calls it UTC when it happens to be zero.
func withOffset(at time.Time, zone string) time.Time {
	if zone == "" {
		return at
	}
	_, offset := at.Zone()
	return at.In(time.FixedZone("", offset))
}

// example is a moment in an hour, to be shown in a question.
func (p *Program) example() string { return p.Now().Add(time.Hour).Format("2006-01-02T15:04") }

// stamp is the moment of a result line: five digits of the second's fraction.
func (p *Program) stamp() string { return p.Now().Format("2006-01-02 15:04:05.00000") }

func isoText(at *time.Time) cluster.Value {
	if at == nil {
		return cluster.Value{}
	}
	return cluster.Text(cluster.FormatTime(*at))
}
