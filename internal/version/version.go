// Package version names this build. Both values may be set by the linker (-ldflags "-X …").
package version

var (
	// Regent is our own version.
	Regent = "0.1.0"
	// Compatible is the Patroni release whose interfaces we speak. Peers parse it, so it is plain
	// dotted integers, at least 4.1.0.
	Compatible = "4.1.4"
)
