package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// signals turns signals into what the member understands (ctl.md 9.2): SIGTERM and SIGINT ask it to leave in
// order, a second SIGINT, which comes from an impatient person at a terminal, ends it at once, SIGHUP makes it
// re-read its configuration. A second SIGTERM changes nothing: service managers repeat it.
func signals() (leave, hard context.Context, reload <-chan struct{}, stop func()) {
	hard, end := context.WithCancel(context.Background())
	leave, depart := context.WithCancel(hard)
	again := make(chan struct{}, 1)
	caught := make(chan os.Signal, 4)
	signal.Notify(caught, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-hard.Done():
				return
			case s := <-caught:
				switch {
				case s == syscall.SIGHUP:
					notify(reloading())
					select {
					case again <- struct{}{}:
					default: // a reload is due already
					}
					notify("READY=1")
				case s == syscall.SIGINT && leave.Err() != nil:
					end()
				default:
					notify("STOPPING=1")
					depart()
				}
			}
		}
	}()
	return leave, hard, again, func() { signal.Stop(caught); depart(); end() }
}
