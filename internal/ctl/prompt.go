package ctl

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
)

// answer is a line of input, or the reason why there is none.
type answer struct {
	line string
	err  error
}

// readLine waits for a line of input, or for the interrupt key.
func (p *Program) readLine(ctx context.Context) (string, error) {
	if p.lines == nil {
		p.lines = make(chan answer)
		go func() { // ends with the input, or with the process: nothing interrupts a read from a terminal
			in := bufio.NewReader(p.In)
			for {
				line, err := in.ReadString('\n')
				if err == io.EOF && line != "" {
					err = nil
				}
				p.lines <- answer{strings.TrimRight(line, "\r\n"), err}
				if err != nil {
					return
				}
			}
		}()
	}
	select {
	case <-ctx.Done():
		return "", errAborted
	case a := <-p.lines:
		if a.err != nil {
			p.lines = closedInput
			return "", errAborted
		}
		return a.line, nil
	}
}

// closedInput answers every further question.
var closedInput = func() chan answer {
	c := make(chan answer)
	close(c)
	return c
}()

// ask puts a question; enter takes the default (ctl.md 1.3).
func (p *Program) ask(ctx context.Context, text, byDefault string) (string, error) {
	fmt.Fprintf(p.Out, "%s [%s]: ", text, byDefault)
	line, err := p.readLine(ctx)
	if line == "" {
		line = byDefault
	}
	return line, err
}

// demand repeats a question until something is typed.
func (p *Program) demand(ctx context.Context, text string) (string, error) {
	for {
		fmt.Fprintf(p.Out, "%s: ", text)
		if line, err := p.readLine(ctx); err != nil || line != "" {
			return line, err
		}
	}
}

// confirm asks for yes or no; enter is no.
func (p *Program) confirm(ctx context.Context, text string) (bool, error) {
	for {
		fmt.Fprintf(p.Out, "%s [y/N]: ", text)
		line, err := p.readLine(ctx)
		if err != nil {
			return false, err
		}
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return true, nil
		case "", "n", "no":
			return false, nil
		}
		fmt.Fprintln(p.Out, "Error: invalid input")
	}
}
