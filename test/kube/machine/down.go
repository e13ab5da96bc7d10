package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// Down ends what runs and deletes what it wrote. It may be repeated, and finds nothing to do where nothing is.
func (m Machine) Down() error {
	var problems []error
	for _, p := range m.processes() {
		problems = append(problems, p.end())
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(m.Dir, "kubelet")); err == nil { // there was a node
		_ = exec.Command("ip", "link", "delete", Name).Run() // gone already, with the node's network
		if err := removeCgroups(); err != nil {
			return err
		}
		for _, d := range covered {
			_ = os.Remove(d) // only if it is empty: then it was made for us
		}
	}
	return os.RemoveAll(m.Dir)
}

// removeCgroups waits until the kernel has let go of the last process of a pod.
func removeCgroups() error {
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		var left error
		for _, h := range hierarchies() {
			var dirs []string
			_ = filepath.WalkDir(filepath.Join(h, Name), func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
			for _, d := range slices.Backward(dirs) {
				if err := os.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
					left = err
				}
			}
		}
		if left == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove the cluster's cgroups: %w", left)
		}
	}
}
