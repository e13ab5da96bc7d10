// Package rest serves the REST API of one member: health checks for load balancers and probes,
// documents for people and tools, and the requests by which they act on the cluster.
//
// Paths, status codes and JSON are Patroni's (rest-api.md). Everything is answered from the status
// that the agent published last, so a check costs neither SQL nor a read of the store; only
// GET /cluster and the requests that act read the store. No handler changes anything by itself: it
// asks agent.Control.
//
// Where Patroni has accidents that nobody can depend on we do the sane thing: HTTP/1.1 with
// Content-Length and keep-alive, exact paths (one slash at the end is allowed, anything else is 404),
// HEAD and OPTIONS that answer what GET answers, an answer that says why instead of a closed
// connection when the store is down. And /primary is 200 only while writes work (ha.md G10): the lock
// alone is what /leader tells.
package rest
