package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/dcs"
)

// configEdit is what edit-config is asked for (ctl.md 6.9).
type configEdit struct {
	quiet, force   bool
	set, pg        []string
	apply, replace string
}

func (p *Program) editConfig() *cobra.Command {
	var e configEdit
	var group *int
	c := p.command("edit-config [OPTIONS] [CLUSTER_NAME]", "Change the configuration that all members share", func(ctx context.Context, args []string) error {
		t, err := p.open(ctx, args, group)
		if err != nil {
			return err
		}
		if !t.Config.Usable {
			return sentence("The config key does not exist in the cluster %s", t.scope)
		}
		after, err := p.edited(ctx, e, t)
		if err != nil {
			return err
		}
		return p.writeConfig(ctx, e, t, after)
	})
	f := c.Flags()
	f.BoolVarP(&e.quiet, "quiet", "q", false, "do not show the difference")
	f.StringArrayVarP(&e.set, "set", "s", nil, "`key=value`: a dotted path and YAML; null removes (repeatable)")
	f.StringArrayVarP(&e.pg, "pg", "p", nil, "`name=value` of a PostgreSQL parameter (repeatable)")
	f.StringVar(&e.apply, "apply", "", "merge a YAML `file` in; - is standard input")
	f.StringVar(&e.replace, "replace", "", "put a YAML `file` in place of all; - is standard input")
	f.BoolVar(&e.force, "force", false, "ask nothing")
	f.Var(groupFlag{&group}, "group", "Citus group")
	return c
}

// edited is the document after all changes, in the order replace, apply, set.
func (p *Program) edited(ctx context.Context, e configEdit, t target) (value, error) {
	document := t.Config.Document
	if e.replace == "" && e.apply == "" && len(e.set)+len(e.pg) == 0 {
		return p.editByHand(ctx, t)
	}
	if e.replace != "" {
		patch, err := p.readPatch(e.replace)
		if err != nil {
			return value{}, err
		}
		document, _ = object().Merge(patch)
	}
	if e.apply != "" {
		patch, err := p.readPatch(e.apply)
		if err != nil {
			return value{}, err
		}
		document, _ = document.Merge(patch)
	}
	settings := e.set
	for _, s := range e.pg {
		settings = append(settings, "postgresql.parameters."+s)
	}
	for _, s := range settings {
		name, text, ok := strings.Cut(s, "=")
		if !ok {
			return value{}, sentence("Invalid parameter setting %s", s)
		}
		v, err := parseYAML(s, []byte(text))
		if err != nil {
			return value{}, err
		}
		document = setPruned(document, v, settingPath(strings.TrimSpace(name)))
	}
	return document, nil
}

// settingPath splits a dotted path; the names of PostgreSQL parameters have dots of their own.
func settingPath(name string) []string {
	const parameters = "postgresql.parameters."
	if rest, ok := strings.CutPrefix(name, parameters); ok {
		return []string{"postgresql", "parameters", rest}
	}
	return strings.Split(name, ".")
}

// setPruned sets a value; a null removes it, and parents that become empty by that.
func setPruned(document, v value, path []string) value {
	document = document.Set(v, path...)
	for path = path[:len(path)-1]; v.Kind == cluster.Null && len(path) > 0; path = path[:len(path)-1] {
		if parent, ok := document.Get(path...); !ok || parent.Kind != cluster.Object || len(parent.Fields) > 0 {
			break
		}
		document = document.Set(v, path...)
	}
	return document
}

// readPatch reads a YAML mapping from a file, or from standard input.
func (p *Program) readPatch(file string) (value, error) {
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(p.In)
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return value{}, fmt.Errorf("read the configuration: %w", err)
	}
	v, err := parseYAML(file, text)
	if err == nil && v.Kind != cluster.Object {
		err = fmt.Errorf("read the configuration from %s: have %s, want a YAML mapping", file, v.Kind)
	}
	return v, err
}

func parseYAML(name string, text []byte) (value, error) {
	v, err := config.ParseYAML(name, text)
	if err != nil {
		return value{}, err
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		return value{}, fmt.Errorf("read %s: %w", name, err)
	}
	return cluster.ParseValue(encoded)
}

// editByHand opens an editor on the document.
func (p *Program) editByHand(ctx context.Context, t target) (value, error) {
	editor, err := p.editor()
	if err != nil {
		return value{}, err
	}
	file, err := os.CreateTemp("", strings.ReplaceAll(t.scope, "/", "_")+"-config-*.yaml")
	if err != nil {
		return value{}, fmt.Errorf("make a file to edit: %w", err)
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(blockYAML(t.Config.Document, configWidth))
	if err := errors.Join(err, file.Close()); err != nil {
		return value{}, fmt.Errorf("write a file to edit: %w", err)
	}
	cmd := exec.CommandContext(ctx, editor[0], append(editor[1:], file.Name())...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.In, p.Out, p.Err
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &exit):
		return value{}, sentence("Editor exited with return code %d", exit.ExitCode())
	case err != nil:
		return value{}, fmt.Errorf("run the editor: %w", err)
	}
	return p.readPatch(file.Name())
}

func (p *Program) editor() ([]string, error) {
	if words := strings.Fields(p.Getenv("EDITOR")); len(words) > 0 {
		return words, nil
	}
	for _, name := range []string{"editor", "vi"} {
		if path, err := exec.LookPath(name); err == nil {
			return []string{path}, nil
		}
	}
	return nil, errors.New("EDITOR environment variable is not set. editor or vi are not available")
}

// writeConfig shows the difference, asks, and writes if nobody else wrote meanwhile.
func (p *Program) writeConfig(ctx context.Context, e configEdit, t target, after value) error {
	old, now := blockYAML(t.Config.Document, configWidth), blockYAML(after, configWidth)
	if old == now {
		if !e.quiet {
			p.say(Outcome{OK: true}, "Not changed")
		}
		return nil
	}
	if err := cluster.RefuseDurability(t.Config, cluster.DynamicConfig{Document: after, Usable: true}, t.Members); err != nil {
		return err
	}
	if !e.quiet {
		p.showDiff(ctx, unifiedDiff(old, now))
	}
	if !e.force && (e.apply == "-" || e.replace == "-") {
		p.say(Outcome{}, "Use --force option to apply changes")
		return nil
	}
	if !e.force {
		if yes, err := p.confirm(ctx, "Apply these changes?"); err != nil || !yes {
			return err
		}
	}
	err := t.put(ctx, cluster.KeyConfig, after.Encode(), t.Config.Revision)
	switch {
	case errors.Is(err, dcs.ErrConflict):
		return sentence("Config modification aborted due to concurrent changes")
	case err != nil:
		return fmt.Errorf("write the configuration of cluster %s: %w", t.scope, err)
	}
	p.say(Outcome{OK: true}, "Configuration changed")
	return nil
}

// showDiff prints a difference; on a terminal in colours, and through $PAGER when there is one.
func (p *Program) showDiff(ctx context.Context, lines []string) {
	var b strings.Builder
	for _, line := range lines {
		colour := map[byte]string{'-': "\x1b[31m", '+': "\x1b[32m", '@': "\x1b[36m"}[line[0]]
		if p.Terminal && colour != "" {
			line = colour + line + "\x1b[0m"
		}
		b.WriteString(line + "\n")
	}
	pager := strings.Fields(p.Getenv("PAGER"))
	if p.Terminal && len(pager) > 0 {
		cmd := exec.CommandContext(ctx, pager[0], pager[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(b.String()), p.Out, p.Err
		if cmd.Run() == nil {
			return
		}
	}
	fmt.Fprint(p.Out, b.String()) // also when the pager could not show it: nobody shall say yes to what he has not seen
}
