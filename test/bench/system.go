package main

import (
	"context"
	"fmt"
	"strings"
)

// system is what is measured. Both read the same configuration file and answer the same REST requests, so only the commands differ.
type system interface {
	// Name heads the columns.
	Name() string
	// Version is what the program says about itself.
	Version(ctx context.Context) (string, error)
	// Agent is the command of a member.
	Agent(file string) []string
	// List is the command that prints the cluster.
	List(file string) []string
}

// regent is the program of this repository.
type regent struct {
	place   *place
	program string // inside
	version string // of the source
}

func (r regent) Name() string                            { return "Regent" }
func (r regent) Version(context.Context) (string, error) { return r.version, nil }
func (r regent) Agent(file string) []string              { return []string{r.program, "agent", file} }
func (r regent) List(file string) []string               { return []string{r.program, "list", "-c", file} }

// patroni is the distribution's package.
type patroni struct{ place *place }

const patroniProgram, patronictlProgram = "/usr/bin/patroni", "/usr/bin/patronictl"

func (p patroni) Name() string { return "Patroni" }

func (p patroni) Version(ctx context.Context) (string, error) {
	out, err := p.place.output(ctx, patroniProgram, "--version")
	if err != nil {
		return "", fmt.Errorf("ask Patroni for its version: %w", err)
	}
	return strings.TrimSpace(strings.TrimPrefix(out, "patroni")), nil
}

func (p patroni) Agent(file string) []string { return []string{patroniProgram, file} }
func (p patroni) List(file string) []string  { return []string{patronictlProgram, "-c", file, "list"} }
