// Package harness runs whole clusters for tests: a real etcd, agents as processes of their own with real PostgreSQL
// servers, an application that writes to every member, and the faults that a data centre has.
//
// Each member reaches the store through a TCP proxy of its own, so that it can be cut off alone. Everything lives below one
// directory on loopback ports found free. Whoever uses it calls Main from TestMain: it builds the agent, leaves root, and
// ends every process of that directory when the tests are over, however they ended.
package harness
