package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// errAborted: the input ended, or the interrupt key was pressed, at a question.
var errAborted = sentence("Aborted!")

// sentence is an error in Patroni's words, which scripts look for: it has a capital and sometimes a full stop.
func sentence(format string, args ...any) error { return fmt.Errorf(format, args...) }

// usageError is a command line that cannot be understood: exit code 2.
type usageError struct {
	command *cobra.Command
	text    string
}

func (e *usageError) Error() string { return e.text }

// silentError ends the program with a code when everything has been said already.
type silentError int

func (e silentError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// Exit says that the program has to end with this code and print nothing more.
func Exit(code int) error { return silentError(code) }

// Run executes a command line and returns the exit code (ctl.md 1.2).
func Run(ctx context.Context, root *cobra.Command, args []string, stderr io.Writer) int {
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	var silent silentError
	switch {
	case err == nil:
		return 0
	case errors.Is(ctx.Err(), context.Canceled): // whatever failed by it: the interrupt key was pressed
		fmt.Fprintln(stderr, errAborted)
		return 1
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "%sTry '%s --help' for help.\n\nError: %s\n", usageLine(usage.command), usage.command.CommandPath(), usage.text)
		return 2
	case errors.As(err, &silent):
		return int(silent)
	case errors.Is(err, errAborted):
		fmt.Fprintln(stderr, err)
		return 1
	default:
		fmt.Fprintln(stderr, "Error:", err)
		return 1
	}
}

// usageLine is "Usage: patronictl list [OPTIONS] [CLUSTER_NAMES]...", folded at 78 characters.
func usageLine(c *cobra.Command) string {
	const width = 78
	line := "Usage: " + c.CommandPath()
	indent := strings.Repeat(" ", len(line)+1)
	var b strings.Builder
	for _, word := range strings.Fields(c.Use)[1:] {
		if len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line = indent + word
			continue
		}
		line += " " + word
	}
	return b.String() + line + "\n"
}

// Root makes the command that the others hang on: global options, then a command.
func (p *Program) Root(short string) *cobra.Command {
	root := &cobra.Command{
		Use: p.Name + " [OPTIONS] COMMAND [ARGS]...", Short: short,
		TraverseChildren: true, SilenceErrors: true, SilenceUsage: true, DisableFlagsInUseLine: true,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{c, "Missing command."}
			}
			return &usageError{c, fmt.Sprintf("No such command '%s'.", args[0])}
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = p.Name == "patronictl" // it works, but Patroni has none
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	root.SetIn(p.In)
	root.SetFlagErrorFunc(flagError)
	root.Flags().SetInterspersed(false) // what follows the command is its own
	p.globalFlags(root.Flags())
	return root
}

func (p *Program) globalFlags(f *pflag.FlagSet) {
	f.StringVarP(&p.options.ConfigFile, "config-file", "c", p.Getenv("PATRONICTL_CONFIG_FILE"), "configuration file or directory")
	f.StringVarP(&p.options.DCS, "dcs-url", "d", p.Getenv("DCS_URL"), "the DCS, as `URL`: [scheme://][host][:port][/namespace]")
	f.StringVar(&p.options.DCS, "dcs", p.options.DCS, "the same as --dcs-url")
	f.BoolVarP(&p.options.Insecure, "insecure", "k", false, "do not verify the certificates of the members' REST API")
	p.outputFlag(f)
	_ = f.MarkHidden("dcs")
}

func (p *Program) outputFlag(f *pflag.FlagSet) {
	f.VarP(choice{&p.output, []string{"text", "json"}}, "output", "o", "what to print: text for people, or JSON (docs/reference/output.md)")
}

// command makes a sub-command. Its Use carries the arguments as a usage error shows them.
func (p *Program) command(use, short string, run func(ctx context.Context, args []string) error) *cobra.Command {
	c := p.bareCommand(use, short, run)
	p.globalFlags(c.Flags()) // people put them behind the command as well
	return c
}

// bareCommand is for one whose own options bear the letters of global ones.
func (p *Program) bareCommand(use, short string, run func(ctx context.Context, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, DisableFlagsInUseLine: true, Args: Arguments,
		RunE: func(c *cobra.Command, args []string) error { return p.reported(c, args, run) },
	}
}

// Arguments compares the arguments with the words of Use: NAME is required, [NAME] is optional, and what
// ends in ... takes any number. It is for the commands of others as well.
func Arguments(c *cobra.Command, args []string) error {
	most := 0
	for _, word := range strings.Fields(c.Use)[1:] {
		switch {
		case word == "[OPTIONS]":
		case strings.HasSuffix(word, "..."):
			return nil
		case !strings.HasPrefix(word, "[") && len(args) <= most:
			return &usageError{c, fmt.Sprintf("Missing argument '%s'.", word)}
		default:
			most++
		}
	}
	if extra := args[min(most, len(args)):]; len(extra) == 1 {
		return &usageError{c, fmt.Sprintf("Got unexpected extra argument (%s)", extra[0])}
	} else if len(extra) > 1 {
		return &usageError{c, fmt.Sprintf("Got unexpected extra arguments (%s)", strings.Join(extra, " "))}
	}
	return nil
}

// renamed are options of releases before 4.0, by what they are called now.
var renamed = map[string]string{"master": "--leader"}

// flagError says what is wrong with an option in the words that scripts know from Patroni.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var noValue *pflag.ValueRequiredError
	var bad *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		if unknown.GetSpecifiedShortnames() != "" {
			return &usageError{c, "No such option: -" + name}
		}
		text := "No such option: --" + name
		if now := renamed[name]; now != "" && c.Flags().Lookup(now[2:]) != nil {
			text += " Did you mean " + now + "?"
		}
		return &usageError{c, text}
	case errors.As(err, &noValue):
		name := noValue.GetSpecifiedName()
		if noValue.GetSpecifiedShortnames() != "" {
			return &usageError{c, fmt.Sprintf("Option '-%s' requires an argument.", name)}
		}
		return &usageError{c, fmt.Sprintf("Option '--%s' requires an argument.", name)}
	case errors.As(err, &bad):
		f := bad.GetFlag()
		name := "'--" + f.Name + "'"
		if f.Shorthand != "" {
			name += " / '-" + f.Shorthand + "'"
		}
		return &usageError{c, fmt.Sprintf("Invalid value for %s: %s", name, badValue(f, bad))}
	default:
		return &usageError{c, err.Error()}
	}
}

func badValue(f *pflag.Flag, bad *pflag.InvalidValueError) string {
	switch f.Value.Type() {
	case "int":
		return fmt.Sprintf("'%s' is not a valid integer.", bad.GetValue())
	case "float64":
		return fmt.Sprintf("'%s' is not a valid float.", bad.GetValue())
	default:
		return bad.Unwrap().Error()
	}
}

// choice is an option that takes one of a few words.
type choice struct {
	word *string
	of   []string
}

func (c choice) String() string { return *c.word }
func (c choice) Type() string   { return strings.Join(c.of, "|") }
func (c choice) Set(s string) error {
	for _, word := range c.of {
		if s == word {
			*c.word = s
			return nil
		}
	}
	return sentence("'%s' is not one of '%s'.", s, strings.Join(c.of, "', '"))
}

// groupFlag is an option --group; it stays nil when it is not given.
type groupFlag struct{ group **int }

func (g groupFlag) String() string { return "" }
func (g groupFlag) Type() string   { return "int" }
func (g groupFlag) Set(s string) error {
	var n int
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil || fmt.Sprint(n) != s {
		return errors.New("not a number")
	}
	*g.group = &n
	return nil
}

// warn writes a log line (ctl.md section 1).
func (p *Program) warn(format string, args ...any) {
	p.log("WARNING", format, args...)
}

// levels are those of log lines, as Python counts them.
var levels = map[string]int{"DEBUG": 10, "INFO": 20, "WARN": 30, "WARNING": 30, "ERROR": 40, "CRITICAL": 50, "FATAL": 50}

// leastLevel is from which level on lines are shown: the last one that is set counts.
func (p *Program) leastLevel() int {
	for _, name := range []string{"PATRONI_LOG_LEVEL", "PATRONI_LOGLEVEL", "LOGLEVEL"} {
		if text := p.Getenv(name); text != "" {
			if n, ok := levels[strings.ToUpper(text)]; ok {
				return n
			}
			break
		}
	}
	return levels["WARNING"]
}

func (p *Program) log(level, format string, args ...any) {
	if levels[level] < p.leastLevel() {
		return
	}
	at := p.Now()
	fmt.Fprintf(p.Err, "%s,%03d - %s - %s\n", at.Format("2006-01-02 15:04:05"), at.Nanosecond()/int(time.Millisecond), level, fmt.Sprintf(format, args...))
}

// clusterName is the one that was named, else the configured one.
func clusterName(site *Site, args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	if site.Scope == "" {
		return "", errors.New("no cluster name: give one as an argument, or set scope in the configuration")
	}
	return site.Scope, nil
}
