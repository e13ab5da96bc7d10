package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is what an agent takes from the machine, with the helpers in its process group, without PostgreSQL, which has its own.
type usage struct {
	cpu       time.Duration // since its start, with that of helpers that have ended
	rss, pss  float64       // MB; shared pages count in full in rss, by share in pss
	anonymous float64       // MB; what of rss is not backed by a file, as the program's own text is
}

// clockTick is the unit of times in /proc/PID/stat (proc(5): sysconf(_SC_CLK_TCK), which is 100 on every Linux that Go runs on).
const clockTick = 10 * time.Millisecond

// usageOf adds up a process group, by the number of its leader.
func usageOf(group int) (u usage, err error) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	found := false
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		g, cpu, err := parseStat(text)
		if err != nil {
			return u, fmt.Errorf("read %s: %w", file, err)
		}
		if g != group {
			continue
		}
		memory, err := os.ReadFile(filepath.Join(filepath.Dir(file), "smaps_rollup"))
		if err != nil {
			if filepath.Base(filepath.Dir(file)) == strconv.Itoa(group) {
				return u, fmt.Errorf("read the memory of process %d: %w", group, err)
			}
			continue
		}
		found = true
		u.cpu += cpu
		u.rss += parseMemory(memory, "Rss:")
		u.pss += parseMemory(memory, "Pss:")
		u.anonymous += parseMemory(memory, "Anonymous:")
	}
	if !found {
		return u, fmt.Errorf("read what process %d uses: it does not run", group)
	}
	return u, nil
}

// parseStat reads the process group and the CPU time of a line of /proc/PID/stat. The name in it may hold blanks and parentheses.
func parseStat(line []byte) (group int, cpu time.Duration, err error) {
	const pgrp, utime, cstime = 5, 14, 17 // fields as proc(5) counts them, utime stime cutime cstime in a row
	end := bytes.LastIndexByte(line, ')')
	fields := strings.Fields(string(line[end+1:])) // from field 3
	if end < 0 || len(fields) < cstime-2 {
		return 0, 0, fmt.Errorf("have %q, want at least %d fields as in proc(5)", line, cstime)
	}
	if group, err = strconv.Atoi(fields[pgrp-3]); err != nil {
		return 0, 0, err
	}
	for _, f := range fields[utime-3 : cstime-2] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		cpu += time.Duration(n) * clockTick
	}
	return group, cpu, nil
}

// parseMemory reads a line of smaps_rollup, in MB.
func parseMemory(text []byte, name string) float64 {
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return n * 1024 / 1e6
		}
	}
	return 0
}

// requests asks the store how many requests it got so far, by method. A message on a stream (a keep-alive, a watch) is one, as is a
// call; what comes through the JSON gateway counts as well, since the gateway passes it on as a call.
func (s *store) requests(ctx context.Context) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask the store for its metrics: %w", err)
	}
	defer answer.Body.Close()
	counts, err := parseRequests(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("ask the store for its metrics: %w", err)
	}
	return counts, nil
}

func parseRequests(metrics io.Reader) (map[string]float64, error) {
	counts := map[string]float64{}
	lines := bufio.NewScanner(metrics)
	for lines.Scan() {
		labels, ok := strings.CutPrefix(lines.Text(), "grpc_server_msg_received_total{")
		if !ok {
			continue
		}
		labels, value, _ := strings.Cut(labels, "} ")
		_, method, _ := strings.Cut(labels, `grpc_method="`)
		method, _, _ = strings.Cut(method, `"`)
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || method == "" {
			return nil, fmt.Errorf("have %q, want a counter with a method", lines.Text())
		}
		counts[method] += n
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(counts) == 0 {
		return nil, fmt.Errorf("have no grpc_server_msg_received_total in it, want one for each method")
	}
	return counts, nil
}
