package postgres

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/regent-ha/regent/internal/cluster"
)

// probeLimit bounds one probe. A healthy postmaster answers within a millisecond.
const probeLimit = 2 * time.Second

// Probe asks the postmaster for any answer, as pg_isready does: no account or password takes part. It
// uses a fresh connection each time, so that a hung postmaster is seen (NoResponse).
func (p *Instance) Probe(ctx context.Context) cluster.Readiness {
	pm := p.postmaster()
	if pm == nil {
		return cluster.NotRunning
	}
	return pm.probe(ctx)
}

// dial connects to the postmaster, by its socket if it has one that can be reached.
func (pm *postmaster) dial(ctx context.Context) (net.Conn, error) {
	d := new(net.Dialer)
	if pm.socketDir != "" {
		if conn, err := d.DialContext(ctx, "unix", filepath.Join(pm.socketDir, ".s.PGSQL."+strconv.Itoa(pm.port))); err == nil {
			return conn, nil
		}
	}
	host := pm.listen
	switch host {
	case "", "*", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(pm.port)))
}

// probe sends a start-up message and looks at the kind of answer (PostgreSQL documentation,
// "Frontend/Backend Protocol", "Start-up"). Only "cannot connect now" means rejecting: a refusal of this
// user, or for too many connections, is an answer of a server that works.
func (pm *postmaster) probe(ctx context.Context) cluster.Readiness {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	if pm.port == 0 {
		return cluster.NoResponse
	}
	conn, err := pm.dial(ctx)
	if err != nil {
		return cluster.NoResponse
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	parameters := "user\x00postgres\x00database\x00postgres\x00application_name\x00regent\x00\x00"
	msg := binary.BigEndian.AppendUint32(nil, uint32(8+len(parameters)))
	msg = binary.BigEndian.AppendUint32(msg, 3<<16) // protocol 3.0
	if _, err := conn.Write(append(msg, parameters...)); err != nil {
		return cluster.NoResponse
	}
	var head [5]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return cluster.NoResponse
	}
	body := make([]byte, min(max(int(binary.BigEndian.Uint32(head[1:]))-4, 0), 8192))
	if _, err := io.ReadFull(conn, body); err != nil {
		return cluster.NoResponse
	}
	if head[0] != 'E' {
		leaveQuietly(conn, head[0], body)
		return cluster.Accepting
	}
	if errorField(body, 'C') == "57P03" { // cannot_connect_now
		return cluster.Rejecting
	}
	return cluster.Accepting
}

// leaveQuietly ends a session in such a way that the server logs nothing: where it wants a password the connection
// is just closed, and where it let us in we take what it sends and say good-bye.
func leaveQuietly(conn net.Conn, kind byte, body []byte) {
	const authenticationOk = 0
	if kind != 'R' || len(body) < 4 || binary.BigEndian.Uint32(body) != authenticationOk {
		return
	}
	for kind != 'Z' && kind != 'E' { // ready for query
		var head [5]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		kind = head[0]
		if _, err := io.CopyN(io.Discard, conn, max(int64(binary.BigEndian.Uint32(head[1:]))-4, 0)); err != nil {
			return
		}
	}
	_, _ = conn.Write([]byte{'X', 0, 0, 0, 4})
}

// errorField returns one field of an ErrorResponse.
func errorField(body []byte, field byte) string {
	for len(body) > 1 {
		end := 1
		for end < len(body) && body[end] != 0 {
			end++
		}
		if body[0] == field {
			return string(body[1:end])
		}
		body = body[min(end+1, len(body)):]
	}
	return ""
}
