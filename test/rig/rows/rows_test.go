package rows

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestJudge(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want Outcome
	}{
		"acknowledged":                   {nil, Done},
		"read only":                      {&pgconn.PgError{Code: "25006"}, Refused},
		"disk full":                      {&pgconn.PgError{Code: "53100"}, Refused},
		"being shut down":                {&pgconn.PgError{Code: "57P01"}, Unknown},
		"the connection broke":           {errors.New("unexpected EOF"), Unknown},
		"the answer came too late":       {context.DeadlineExceeded, Unknown},
		"safe to retry, says the driver": {closed{}, Unknown},
		"crash of another's session":     {&pgconn.PgError{Code: "57P02"}, Unknown},
	} {
		if have := Judge(tt.err); have != tt.want {
			t.Errorf("%s: have %s, want %s", name, have, tt.want)
		}
	}
}

// closed is an error as the driver has it for a session that was closed, before a statement was sent or after.
type closed struct{}

func (closed) Error() string     { return "conn closed" }
func (closed) SafeToRetry() bool { return true }

func TestTimeline(t *testing.T) {
	if have, err := Timeline("0000001A0000000100000002"); have != 26 || err != nil {
		t.Errorf("have timeline %d, %v, want 26", have, err)
	}
	if _, err := Timeline("00000001"); err == nil {
		t.Error("have no error for a name that is too short")
	}
}
