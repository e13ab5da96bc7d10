package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/ctl"
	"github.com/regent-ha/regent/internal/logging"
	"github.com/regent-ha/regent/internal/version"
)

const patroniUsage = `usage: patroni [-h] [--version] [--validate-config | --generate-sample-config | --generate-config]
               [--dsn DSN] [--ignore-listen-port] [--print]
               [configfile]
`

// patroni is the daemon's command line (ctl.md section 9).
func patroni(args []string) int {
	return patroniWith(args, os.Environ(), os.Stdout, os.Stderr, runMember)
}

// runner runs a member until it is told to stop.
type runner func(leave, hard context.Context, reload <-chan struct{}, file *config.File, logs *logging.Log) error

func patroniWith(args, environ []string, stdout, stderr io.Writer, member runner) int {
	f := pflag.NewFlagSet("patroni", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	help := f.BoolP("help", "h", false, "")
	showVersion := f.Bool("version", false, "")
	validate := f.Bool("validate-config", false, "")
	sample := f.Bool("generate-sample-config", false, "")
	generateIt := f.Bool("generate-config", false, "")
	dsn := f.String("dsn", "", "")
	ignorePort := f.BoolP("ignore-listen-port", "i", false, "")
	show := f.BoolP("print", "p", false, "")
	wrong := func(text string) int {
		fmt.Fprintf(stderr, "%spatroni: error: %s\n", patroniUsage, text)
		return 2
	}
	if err := f.Parse(args); err != nil {
		return wrong(err.Error())
	}
	path := f.Arg(0)
	switch {
	case *help:
		fmt.Fprint(stdout, patroniUsage)
		return 0
	case *showVersion:
		fmt.Fprintf(stdout, "patroni %s\n", version.Compatible)
		return 0
	case *sample && *generateIt:
		return wrong("argument --generate-config: not allowed with argument --generate-sample-config")
	case *validate && *generateIt:
		return wrong("argument --validate-config: not allowed with argument --generate-config")
	case *validate && *sample:
		return wrong("argument --validate-config: not allowed with argument --generate-sample-config")
	case f.NArg() > 1:
		return wrong("unrecognized arguments: " + f.Arg(1))
	case *sample || *generateIt:
		return generate(context.Background(), *generateIt, *dsn, path, environ, stdout, stderr)
	case *validate:
		return config.CheckFile(path, environ, config.Options{IgnoreListenPort: *ignorePort, RequireDCS: true}, *show, stdout, stderr)
	}
	return start(path, environ, stderr, member)
}

// start loads the configuration and runs the member; all that makes a start impossible is said at once.
func start(path string, environ []string, stderr io.Writer, member runner) int {
	file, err := config.Load(path, environ)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	settings, err := file.Settings()
	err = errors.Join(err, notAsRoot(settings))
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	if underInit() {
		return asInit(stderr)
	}
	logs, err := logging.New(settings.Log, stderr)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	defer logs.Close()
	log := logs.Logger()
	log.Info("start", "version", version.Regent, "compatible", version.Compatible, "scope", settings.Scope, "name", settings.Name, "configuration", file.Path)
	doubts(log, file)
	leave, hard, reload, stop := signals()
	defer stop()
	notify("READY=1")
	if err := member(leave, hard, reload, file, logs); err != nil && !errors.Is(err, context.Canceled) {
		log.Error("the agent ends", "error", err)
		return 1
	}
	return 0
}

// doubts logs what is wrong with the configuration and no obstacle: unknown keys, values of a wrong type. The default counts for
// these, at Patroni too (config.md 7.1).
func doubts(log *slog.Logger, file *config.File) {
	for _, p := range config.Validate(file, config.Options{DocumentOnly: true}) {
		attrs := []any{"key", p.Path, "problem", strings.TrimSpace(p.Value + " " + p.Message)}
		if p.Origin.Line > 0 {
			attrs = append(attrs, "at", p.Origin.String())
		}
		log.Warn("check the configuration", attrs...)
	}
}

// notAsRoot refuses to run as root, under whom PostgreSQL does not start.
func notAsRoot(s config.Settings) error {
	if os.Geteuid() != 0 {
		return nil
	}
	owner := "postgres"
	var stat syscall.Stat_t
	if err := syscall.Stat(s.Postgres.DataDir, &stat); err == nil && stat.Uid != 0 {
		if u, err := user.LookupId(strconv.FormatUint(uint64(stat.Uid), 10)); err == nil {
			owner = u.Username
		}
	}
	return fmt.Errorf("start as root: PostgreSQL does not run as root; start the agent as the owner of the data directory, for example: runuser -u %s -- regent agent FILE", owner)
}

func agentCommand() *cobra.Command {
	return &cobra.Command{
		Use: "agent [FILE]", Short: "Run one member of a cluster", Args: ctl.Arguments, DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			path := ""
			if len(args) > 0 {
				path = args[0]
			}
			if _, err := os.Stat(path); path != "" && errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("read configuration %s: there is no such file", path)
			}
			return exit(start(path, os.Environ(), os.Stderr, runMember))
		},
	}
}

func validateCommand() *cobra.Command {
	var ignorePort, show bool
	c := &cobra.Command{
		Use: "validate [OPTIONS] FILE", Short: "Check a configuration file", Args: ctl.Arguments, DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := os.Stat(args[0]); err != nil {
				return fmt.Errorf("read configuration: %w", err)
			}
			code := config.CheckFile(args[0], os.Environ(), config.Options{IgnoreListenPort: ignorePort}, show, os.Stdout, os.Stderr)
			if code == 0 && !show {
				fmt.Println("The configuration is valid.")
			}
			return exit(code)
		},
	}
	c.Flags().BoolVarP(&ignorePort, "ignore-listen-port", "i", false, "do not mind that something listens on the ports already")
	c.Flags().BoolVarP(&show, "print", "p", false, "print the merged configuration if it is valid")
	return c
}

// exit ends a command with a code, everything having been said.
func exit(code int) error {
	if code == 0 {
		return nil
	}
	return ctl.Exit(code)
}
