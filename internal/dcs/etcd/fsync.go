package etcd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// fsyncMetric is etcd's histogram of how long its log takes to disk. Followers as well as the leader have it.
const fsyncMetric = "etcd_disk_wal_fsync_duration_seconds_bucket"

// Fsync returns how long 99 of 100 writes of a server's log to its disk have taken at most, since it started.
func (c Config) Fsync(ctx context.Context, endpoint string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	hostport, https, err := c.address(endpoint)
	if err != nil {
		return 0, err
	}
	url, transport := "http://"+hostport+"/metrics", &http.Transport{}
	defer transport.CloseIdleConnections()
	if https {
		url = "https://" + hostport + "/metrics"
		if transport.TLSClientConfig, err = c.tls(); err != nil {
			return 0, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("read %s: %s", url, answer.Status)
	}
	return p99(io.LimitReader(answer.Body, 16<<20))
}

// p99 reads the histogram: the bound of the first bucket that has 99 of 100.
func p99(metrics io.Reader) (time.Duration, error) {
	type bucket struct{ bound, count float64 }
	var buckets []bucket
	for scan := bufio.NewScanner(metrics); scan.Scan(); {
		label, count, ok := strings.Cut(scan.Text(), "\"} ")
		bound, found := strings.CutPrefix(label, fsyncMetric+`{le="`)
		if !ok || !found {
			continue
		}
		b, err1 := strconv.ParseFloat(bound, 64)
		n, err2 := strconv.ParseFloat(count, 64)
		if err := errors.Join(err1, err2); err != nil {
			return 0, err
		}
		buckets = append(buckets, bucket{b, n})
	}
	if len(buckets) == 0 || buckets[len(buckets)-1].count == 0 {
		return 0, errors.New("the server tells nothing of its disk")
	}
	all := buckets[len(buckets)-1].count
	for i, b := range buckets {
		if b.count < 0.99*all {
			continue
		}
		if i == len(buckets)-1 && i > 0 { // beyond all bounds
			b.bound = 2 * buckets[i-1].bound
		}
		return time.Duration(b.bound * float64(time.Second)), nil
	}
	return 0, errors.New("the histogram does not add up")
}
