// Command regent keeps one PostgreSQL primary per cluster, and shows and changes clusters.
//
// It is one program under three names: called as patroni it takes that daemon's command line, as
// patronictl that tool's, and as regent it has everything as sub-commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/regent-ha/regent/internal/ctl"
	"github.com/regent-ha/regent/internal/demo"
)

func main() { os.Exit(run()) }

func run() int {
	name := filepath.Base(os.Args[0])
	if name == "patroni" {
		return patroni(os.Args[1:])
	}
	if name != "patronictl" {
		name = "regent"
	}
	ctx := context.Background()
	if len(os.Args) < 2 || os.Args[1] != "agent" { // the agent has signals of its own
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
	}
	program := &ctl.Program{
		Name: name, In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Terminal: isTerminal(os.Stdout),
		Getenv: os.Getenv, Now: time.Now,
	}
	program.Connect, program.Install = connect(os.Environ()), installation(os.Environ())
	root := program.Root("Look at PostgreSQL clusters and act on them")
	root.AddCommand(program.Commands()...)
	if name == "regent" {
		root.Short = "Automated failover for PostgreSQL"
		root.AddCommand(append(program.Own(), agentCommand(), validateCommand(), kubernetesCommand(), generateCommand(), simulateCommand(), proxyCommand(), demo.Command())...)
	}
	return ctl.Run(ctx, root, os.Args[1:], os.Stderr)
}

// isTerminal says whether people read the output: a character device that is not /dev/null.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
