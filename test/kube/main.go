// Command kube brings up a real Kubernetes for the tests of Regent. See README.md; test/kube/run calls it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/regent-ha/regent/test/kube/machine"
)

const usage = `usage: test/kube/run COMMAND

  can                         try whether this machine allows a node
  built                       say whether Kubernetes is built
  build                       build Kubernetes (box), helm and pause into the cache
  control [-- COMMAND...]     etcd, API server and controller manager on 127.0.0.1
  node [-- COMMAND...]        a cluster of one real node (root); as well: the image of Regent, made and imported
  image [FILE]                the image of Regent as an archive (default: in the cache)
  enter COMMAND...            run a command inside the node: ctr, nft, ip, ...
  down [control|node]         end what was left running, delete what it wrote

With a COMMAND, control and node run it with KUBECONFIG and REGENT_TEST_KUBECONFIG set and kubectl and helm in the PATH, and
end the cluster with it, however it ends. Without one, the cluster stays, and what to export is printed.
`

func init() { runtime.LockOSThread() } // children that end with us are bound to the thread that started them

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command(ctx, os.Args[1:])
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "test/kube:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	source := os.Getenv("REGENT_KUBE_SOURCE")
	if len(args) == 0 || source == "" {
		fmt.Fprint(os.Stderr, usage)
		return errors.New("expected a command, and to be called by test/kube/run")
	}
	name, args := args[0], args[1:]
	node := machine.At(source, "node")
	switch name {
	case "inside":
		return node.Inside(os.NewFile(3, "cable"))
	case "can":
		return node.Can()
	case "trial":
		return node.Trial(os.NewFile(3, "cable"))
	case "built":
		return node.Built()
	case "build":
		return node.Build(os.Stderr)
	case "control", "node":
		return cluster(ctx, machine.At(source, name), name, args)
	case "image":
		file := filepath.Join(node.Cache, "regent.tar")
		if len(args) > 0 {
			file = args[0]
		}
		return node.Image(file, os.Stderr)
	case "enter":
		cmd, err := node.Enter(ctx, args...)
		if err != nil {
			return err
		}
		return attached(cmd)
	case "down":
		if len(args) == 0 {
			args = []string{"control", "node"}
		}
		var problems []error
		for _, kind := range args {
			problems = append(problems, machine.At(source, kind).Down())
		}
		return errors.Join(problems...)
	}
	fmt.Fprint(os.Stderr, usage)
	return fmt.Errorf("%s: there is no such command", name)
}

// cluster brings a cluster up, and down again if it was for one command only.
func cluster(ctx context.Context, m machine.Machine, kind string, args []string) (err error) {
	bound := len(args) > 0
	if bound && args[0] == "--" {
		args = args[1:]
	}
	if bound && len(args) == 0 {
		return errors.New("expected a command after --")
	}
	if err := m.Build(os.Stderr); err != nil {
		return err
	}
	if bound {
		defer func() { err = errors.Join(err, m.Down()) }()
	}
	if err := up(ctx, m, kind, bound); err != nil {
		return err
	}
	if !bound {
		fmt.Printf("export KUBECONFIG=%[1]s REGENT_TEST_KUBECONFIG=%[1]s PATH=%[2]s:$PATH\n", m.Kubeconfig(), m.Bin())
		return nil
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), "KUBECONFIG="+m.Kubeconfig(), "REGENT_TEST_KUBECONFIG="+m.Kubeconfig(),
		"PATH="+m.Bin()+string(filepath.ListSeparator)+os.Getenv("PATH"))
	return attached(cmd)
}

func up(ctx context.Context, m machine.Machine, kind string, bound bool) error {
	if kind == "control" {
		return m.Control(ctx, bound, os.Stderr)
	}
	if err := m.Node(ctx, bound, os.Stderr); err != nil {
		return err
	}
	archive := filepath.Join(m.Cache, "regent.tar")
	if err := m.Image(archive, os.Stderr); err != nil {
		return err
	}
	return m.Import(ctx, archive)
}

func attached(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return nil
}
