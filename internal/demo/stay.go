package demo

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// respawnAfter is how long a member stays away whose agent has ended: about what a pod needs to come back.
const respawnAfter = 3 * time.Second

// redraw is how often the live table is drawn.
const redraw = 500 * time.Millisecond

// stay keeps the cluster up, with the writer at work, until ctx ends. An agent that ends is started again.
func (p *play) stay(ctx context.Context) error {
	p.cluster.howTo(p.screen, os.Args[0])
	p.say("")
	l := &live{screen: p.screen}
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	typed := lines(p.terminal)
	back := map[*member]time.Time{} // when to start it again
	note, noted := "", time.Now()
	say := func(format string, args ...any) { note, noted = fmt.Sprintf(format, args...), time.Now() }
	for {
		for _, m := range p.cluster.members {
			if m.running() != nil {
				continue
			}
			switch at, waits := back[m]; {
			case !waits:
				back[m] = time.Now().Add(respawnAfter)
				say("%s: its agent is gone, it is started again in %s; log: %s", m.name, duration(respawnAfter), m.log())
			case time.Now().After(at):
				delete(back, m)
				if err := p.cluster.start(m); err != nil {
					return err
				}
				say("%s: started again", m.name)
			}
		}
		if time.Since(noted) > 10*time.Second {
			note = ""
		}
		if err := p.draw(ctx, l, note); err != nil && ctx.Err() == nil {
			say("%v", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-p.cluster.server.Err():
			return fmt.Errorf("run the store: it ended: %w", err)
		case line := <-typed:
			l.lines++ // the Enter key moved the cursor
			if m := p.cluster.member(Scope + "-" + strings.TrimSpace(line)); m != nil {
				if _, err := p.cluster.kill(m); err != nil {
					return err
				}
			}
		case <-tick.C:
		}
	}
}

func (p *play) draw(ctx context.Context, l *live, note string) error {
	t, err := p.cluster.table(ctx)
	if err != nil {
		return err
	}
	rows, last, problem := p.writer.state()
	state := fmt.Sprintf("Writer: %s rows acknowledged", number(rows))
	if age := time.Since(last); rows > 0 && age > 500*time.Millisecond {
		state += p.paint(red, fmt.Sprintf(", none for %s", duration(age)))
		if problem != nil {
			first, _, _ := strings.Cut(problem.Error(), "\n")
			state += " (" + clip(first, 50) + ")"
		}
	} else {
		state += fmt.Sprintf(", longest time without: %s", duration(p.writer.worst()))
	}
	if note != "" {
		state += "\n" + note
	}
	l.draw(t, state, p.cluster.look(ctx))
	return nil
}

func clip(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most-3]) + "..."
	}
	return text
}

// lines are what a person types; nothing where no person is. The reader ends with the process.
func lines(terminal bool) <-chan string {
	typed := make(chan string)
	if !terminal || !isTerminal(os.Stdin) {
		return typed
	}
	go func() {
		for s := bufio.NewScanner(os.Stdin); s.Scan(); {
			typed <- s.Text()
		}
	}()
	return typed
}
