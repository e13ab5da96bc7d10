// Package config reads what an operator wrote: Patroni's file or directory, the environment, and
// the document in the DCS; it gives every setting the meaning that Patroni gives it, and says what
// is wrong with it.
//
// Words. A document is an untyped tree (Map). Local is what file and environment say, dynamic is
// what all members share in the DCS, effective is what counts: defaults, then dynamic, then local,
// with the exceptions of config.md 1.6. Settings are the typed form, with units in their types.
//
// Promises: loading never panics, whatever the text; every problem is reported, not only the first;
// a Secret never prints itself. Nothing here writes anything but the cache file, and nothing but
// Validate's probes touches the network or other programs.
//
// Source: config.md sections 1 to 7.
package config
