package main

import (
	"fmt"
	"os"

	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/ctl"
)

// installation reads a Patroni installation for adopt. Patroni runs, so that its ports are taken is right.
func installation(environ []string) func(string, ctl.Options) (*ctl.Installation, error) {
	return func(path string, o ctl.Options) (*ctl.Installation, error) {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		file, err := config.Load(path, environ)
		if err != nil {
			return nil, err
		}
		i := &ctl.Installation{Path: path, File: file, Problems: config.Validate(file, config.Options{IgnoreListenPort: true, RequireDCS: true})}
		i.Settings, i.Impossible = file.Settings()
		i.Site, i.SiteErr = site(file, o)
		return i, nil
	}
}
