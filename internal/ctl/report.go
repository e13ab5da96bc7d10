package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Report is what an acting command prints with --output json (docs/reference/output.md). The sentences for people, and questions,
// go to standard error then.
type Report struct {
	Command  string    `json:"command"`
	Cluster  string    `json:"cluster,omitempty"`
	OK       bool      `json:"ok"`              // no error, and every outcome is fine
	Error    string    `json:"error,omitempty"` // why the command ended early
	Outcomes []Outcome `json:"outcomes"`        // in order; what was said of each member
	Data     any       `json:"data,omitempty"`  // what the command was asked to show
}

// Outcome is one thing that was done, or refused.
type Outcome struct {
	Member  string `json:"member,omitempty"`
	OK      bool   `json:"ok"`
	Status  int    `json:"status,omitempty"` // HTTP status of the member's answer; 0: none was needed, or came
	Message string `json:"message"`
}

// say prints a line for people and keeps it for the report.
func (p *Program) say(o Outcome, format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	fmt.Fprintln(p.Out, line)
	o.Message = line
	p.keep(o)
}

// keep puts an outcome into the report.
func (p *Program) keep(o Outcome) {
	if p.report != nil {
		p.report.Outcomes = append(p.report.Outcomes, o)
	}
}

// data is what the report carries besides outcomes; true: it goes there, people need not see it.
func (p *Program) data(v any) bool {
	if p.report != nil {
		p.report.Data = v
	}
	return p.report != nil
}

// reported runs a command and prints its report, if that was asked for. Commands with a format of their own print that as JSON.
func (p *Program) reported(c *cobra.Command, args []string, run func(context.Context, []string) error) error {
	if p.output != "json" {
		return run(c.Context(), args)
	}
	if f := c.Flags().Lookup("format"); f != nil && c.Name() != "remove" {
		if err := f.Value.Set("json"); err != nil {
			return err
		}
		return run(c.Context(), args)
	}
	if c.Name() == "topology" {
		return run(c.Context(), args)
	}
	out := p.Out
	p.Out = p.Err
	p.report = &Report{Command: c.Name(), OK: true, Outcomes: []Outcome{}}
	err := run(c.Context(), args)
	if err != nil {
		p.report.OK = false
		if err := strings.TrimSpace(err.Error()); !strings.HasPrefix(err, "exit ") {
			p.report.Error = err
		}
	}
	for _, o := range p.report.Outcomes {
		p.report.OK = p.report.OK && o.OK
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	if bad := e.Encode(p.report); bad != nil {
		return bad
	}
	return err
}
