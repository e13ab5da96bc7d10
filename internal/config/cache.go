package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// cacheName is Patroni's name of the last known dynamic document (config.md 1.7).
const cacheName = "patroni.dynamic.json"

// ReadCache returns the dynamic document that was last seen by the member of this data directory.
// An absent file is no error: the document is then not usable.
func ReadCache(dataDir string) (cluster.DynamicConfig, error) {
	name := filepath.Join(dataDir, cacheName)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return cluster.DynamicConfig{}, nil
	}
	if err != nil {
		return cluster.DynamicConfig{}, fmt.Errorf("read cached dynamic configuration: %w", err)
	}
	v, err := cluster.ParseValue(text)
	if err != nil {
		return cluster.DynamicConfig{}, fmt.Errorf("read cached dynamic configuration %s: %w", name, err)
	}
	if v.Kind != cluster.Object {
		return cluster.DynamicConfig{}, fmt.Errorf("read cached dynamic configuration %s: have %s, want an object", name, v.Kind)
	}
	return cluster.DynamicConfig{Document: v, Usable: true}, nil
}

// WriteCache replaces the file in one step, with the adjusted times. The mode follows the data
// directory: 0640 if its group may read, else 0600.
func WriteCache(dataDir string, dynamic cluster.DynamicConfig) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write cached dynamic configuration: %w", err)
		}
	}()
	dir, err := os.Stat(dataDir)
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o600)
	if dir.Mode().Perm()&0o050 == 0o050 {
		mode = 0o640
	}
	f, err := os.CreateTemp(dataDir, cacheName+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.Write(adjusted(dynamic).Encode())
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dataDir, cacheName))
}

// adjusted is the document with the times that count in place of those that do not.
func adjusted(dynamic cluster.DynamicConfig) cluster.Value {
	v := dynamic.Document
	if v.Kind != cluster.Object {
		v = cluster.Value{Kind: cluster.Object}
	}
	written := dynamic.WrittenTiming()
	count, _ := dynamic.Timing()
	for _, t := range []struct {
		name       string
		from, used time.Duration
	}{{"ttl", written.TTL, count.TTL}, {"loop_wait", written.LoopWait, count.LoopWait}, {"retry_timeout", written.RetryTimeout, count.RetryTimeout}} {
		if t.from != t.used {
			v = v.Set(cluster.Int(int64(t.used/time.Second)), t.name)
		}
	}
	return v
}
