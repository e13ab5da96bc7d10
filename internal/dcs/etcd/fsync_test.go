package etcd_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/regent-ha/regent/internal/dcs/etcd"
)

func TestFsync(t *testing.T) {
	t.Parallel()
	server := start(t)
	acquire(t, open(t, etcd.Config{Endpoints: []string{server.Address}}))
	if took, err := (etcd.Config{}).Fsync(t.Context(), server.Address); err != nil || took <= 0 {
		t.Errorf("of a real server: have %s, %v", took, err)
	}
	for text, want := range map[string]string{
		"0.001=10 0.002=99 0.004=100 +Inf=100": "2ms",
		"0.001=10 0.002=98 0.004=100 +Inf=100": "4ms",
		"0.001=0 0.004=50 +Inf=100":            "8ms", // beyond all bounds: twice the last
		"+Inf=0":                               "the server tells nothing of its disk",
		"":                                     "the server tells nothing of its disk",
	} {
		page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "# HELP etcd_disk_wal_fsync_duration_seconds ...\netcd_disk_backend_commit_duration_seconds_bucket{le=\"9\"} 1000")
			for b := range strings.FieldsSeq(text) {
				bound, count, _ := strings.Cut(b, "=")
				fmt.Fprintf(w, "etcd_disk_wal_fsync_duration_seconds_bucket{le=%q} %s\n", bound, count)
			}
		}))
		took, err := (etcd.Config{}).Fsync(t.Context(), page.URL)
		have := took.String()
		if err != nil {
			have = err.Error()
		}
		if have != want {
			t.Errorf("%s: have %s, want %s", text, have, want)
		}
		page.Close()
	}
	began := time.Now()
	if _, err := (etcd.Config{}).Fsync(t.Context(), silent(t)); err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("a silent server: have %v after %s, want an error after 2 s", err, time.Since(began))
	}
}
