package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/cluster"
)

// Callback actions (config.md 5.8).
const (
	OnStart      = "on_start"
	OnStop       = "on_stop"
	OnRestart    = "on_restart"
	OnReload     = "on_reload"
	OnRoleChange = "on_role_change"
)

// callbacks runs at most one callback at a time, and beside it at most one on_reload.
type callbacks struct {
	mu      sync.Mutex
	closed  bool
	running [2]*callback // on_reload is the second
	waiting sync.WaitGroup
}

type callback struct {
	kill context.CancelFunc
	done chan struct{}
}

// RunCallback starts the command configured for an action, with action, role and scope as further arguments, and does not
// wait for it. A callback that still runs is killed with its children first, and so is an on_reload by the
// next on_reload. ha.md 2.25.
func (p *Instance) RunCallback(action string, role cluster.Role) {
	s := p.Settings()
	command := s.Callbacks[action]
	if command == "" {
		return
	}
	if role == cluster.Promoted {
		role = cluster.Primary
	}
	words, err := splitCommand(command)
	if err != nil || len(words) == 0 {
		p.log.LogAttrs(context.Background(), slog.LevelError, "callback cannot be run", slog.String("action", action), slog.Any("error", err))
		return
	}
	words = append(words, action, string(role), s.Scope)
	lane := 0
	if action == OnReload {
		lane = 1
	}
	c := &p.db.callbacks
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	before := c.running[lane]
	if before != nil {
		before.kill()
	}
	ctx, kill := context.WithCancel(context.Background())
	this := &callback{kill: kill, done: make(chan struct{})}
	c.running[lane] = this
	c.waiting.Go(func() {
		defer close(this.done)
		defer kill()
		if before != nil {
			<-before.done // it cannot run beside its successor, even if it takes a while to die
		}
		if ctx.Err() != nil {
			return
		}
		err := runGroup(ctx, words, nil)
		level := slog.LevelDebug
		if err != nil && ctx.Err() == nil {
			level = slog.LevelWarn
		}
		p.log.LogAttrs(context.Background(), level, "callback ended", slog.String("action", action), slog.String("role", string(role)), slog.Any("error", err))
	})
}

// WaitCallbacks waits for running callbacks, at most until ctx ends.
func (p *Instance) WaitCallbacks(ctx context.Context) error {
	c := &p.db.callbacks
	c.mu.Lock()
	running := c.running
	c.mu.Unlock()
	for _, cb := range running {
		if cb == nil {
			continue
		}
		select {
		case <-cb.done:
		case <-ctx.Done():
			return fmt.Errorf("wait for callbacks: %w", context.Cause(ctx))
		}
	}
	return nil
}

func (c *callbacks) close() {
	c.mu.Lock()
	c.closed = true
	for _, cb := range c.running {
		if cb != nil {
			cb.kill()
		}
	}
	c.mu.Unlock()
	c.waiting.Wait()
}

// RunHook runs a command line and waits for it; env is added to our own environment. At the end of ctx it is killed
// with its children. An empty command is no error.
func (p *Instance) RunHook(ctx context.Context, command string, env ...string) error {
	return runHook(ctx, command, nil, env...)
}

func runHook(ctx context.Context, command string, args []string, env ...string) error {
	words, err := splitCommand(command)
	if err != nil {
		return fmt.Errorf("run %q: %w", command, err)
	}
	if len(words) == 0 {
		return nil
	}
	if err := runGroup(ctx, append(words, args...), env); err != nil {
		return fmt.Errorf("run %q: %w", words[0], err)
	}
	return nil
}

// runGroup runs a program in a process group of its own, which is killed as a whole at the end of ctx.
func runGroup(ctx context.Context, words, env []string) error {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("killed: %w", context.Cause(ctx))
	}
	return err
}

// splitCommand splits a command line as a POSIX shell would, without expansions.
func splitCommand(line string) (words []string, err error) {
	var word strings.Builder
	inWord := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', '\n', '\r':
			if inWord {
				words, inWord = append(words, word.String()), false
				word.Reset()
			}
		case '\'':
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return nil, errors.New("a single quote is not closed")
			}
			word.WriteString(line[i+1 : i+1+end])
			i, inWord = i+1+end, true
		case '"':
			inWord = true
			for i++; ; i++ {
				if i >= len(line) {
					return nil, errors.New("a double quote is not closed")
				}
				if line[i] == '"' {
					break
				}
				if line[i] == '\\' && i+1 < len(line) && (line[i+1] == '"' || line[i+1] == '\\') {
					i++
				}
				word.WriteByte(line[i])
			}
		case '\\':
			if i+1 >= len(line) {
				return nil, errors.New("a backslash at the end escapes nothing")
			}
			i, inWord = i+1, true
			word.WriteByte(line[i])
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
