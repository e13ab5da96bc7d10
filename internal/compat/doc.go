// Package compat keeps docs/reference/compatibility.md true. For every part of Patroni's interface there is a list in
// docs/reference/compat, one line for each thing that somebody may rely on, with the tests that show it or the reason
// why there is none. Its test fails when a list names a test or recorded file that does not exist, and makes the
// page's tables from the lists.
//
// A list is plain text:
//
//	# REST API
//	in internal/rest
//	## Health checks
//	what somebody relies on | TestOne, TestTwo/errors/restart-*.txt, internal/agent.TestThree | what is different, and why
//
// "in" names the package of tests without one. Behind a slash stands a pattern of files below the package's testdata that
// the test replays. The remark may be left out where tests are named. Without a test it begins with "missing:" (wanted,
// says what happens instead) or "not:" (left out on purpose, says why).
package compat
