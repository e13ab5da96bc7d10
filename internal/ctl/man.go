package ctl

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// man writes manual pages: one for the program and one per command, for both of its names.
func (p *Program) man() *cobra.Command {
	var c *cobra.Command
	c = p.command("man [OPTIONS] DIRECTORY", "Write the manual pages", func(_ context.Context, args []string) error {
		q := *p
		q.Name = "patronictl"
		other := q.Root("Look at PostgreSQL clusters and act on them")
		other.AddCommand(q.Commands()...)
		for _, root := range []*cobra.Command{c.Root(), other} {
			for _, page := range append([]*cobra.Command{root}, root.Commands()...) {
				if page.Hidden {
					continue
				}
				path := filepath.Join(args[0], strings.ReplaceAll(page.CommandPath(), " ", "-")+".1")
				if err := os.WriteFile(path, []byte(manual(page)), 0o644); err != nil {
					return fmt.Errorf("write a manual page: %w", err)
				}
			}
		}
		return nil
	})
	return c
}

// manual is a page in roff, with the macros of man(7).
func manual(c *cobra.Command) string {
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" Regent \"\"\n.SH NAME\n%s \\- %s\n", quoted(strings.ToUpper(name)), roff(name), roff(c.Short))
	usage := strings.Fields(c.UseLine())
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n%s\n", roff(c.CommandPath()), roff(strings.Join(usage[min(len(usage), len(strings.Fields(c.CommandPath()))):], " ")))
	if c.Long != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", roff(c.Long))
	}
	if c.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range c.Commands() {
			if !sub.Hidden {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(sub.Name()), roff(sub.Short))
			}
		}
	}
	b.WriteString(".SH OPTIONS\n")
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		kind, help := pflag.UnquoteUsage(f)
		option := "--" + f.Name
		if f.Shorthand == f.Name {
			option = "-" + f.Name
		} else if f.Shorthand != "" {
			option = "-" + f.Shorthand + ", " + option
		}
		if kind != "" {
			option += " " + strings.ToUpper(kind)
		}
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(option), roff(help))
	})
	fmt.Fprintf(&b, ".SH EXIT STATUS\n0: done, or refused by a member; 1: an error; 2: a command line that cannot be understood.\n")
	if c.HasParent() {
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", roff(strings.ReplaceAll(c.Parent().CommandPath(), " ", "-")))
	}
	return b.String()
}

var roffEscapes = strings.NewReplacer(`\`, `\e`, "-", `\-`)

// roff escapes a text; a line must not begin like a request.
func roff(s string) string {
	lines := strings.Split(roffEscapes.Replace(s), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func quoted(s string) string { return `"` + roff(s) + `"` }
