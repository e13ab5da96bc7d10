// Package arch holds no code, only a test: it watches who imports whom and says why a wrong import is
// wrong. The arrows are drawn in DESIGN.md, "Packages"; a new package gets a row in the test's table.
package arch
