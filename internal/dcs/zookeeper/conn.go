package zookeeper

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/regent-ha/regent/internal/dcs"
)

// session is what ephemeral nodes live by. It is no connection: it lives in the servers until timeout has passed since
// somebody last attached to it.
type session struct {
	id       int64 // 0: none
	password []byte
	ttl      time.Duration // asked for
	timeout  time.Duration // granted
	touched  time.Time     // before the request of the last attachment had left
}

// lasts is how long after a touch the session certainly lives, and we count on it.
func (s session) lasts() time.Duration { return min(s.ttl, s.timeout) }

func (s session) String() string { return sessionText(s.id) }

func sessionText(id int64) string {
	if id == 0 {
		return ""
	}
	return fmt.Sprintf("%x", uint64(id))
}

// conn is one connection, attached to one session. It repeats nothing and does not reconnect.
type conn struct {
	net     net.Conn
	session session
	event   func(path string) // called in order with the answers; nil: nothing is watched
	heard   func(zxid int64)  // before each answer is handed out
	count   func(kind string) // each request that is sent
	top     int64             // the newest transaction that was told of; the view keeps it

	writing sync.Mutex // requests are sent in the order of their numbers
	mu      sync.Mutex
	last    int32
	waiting map[int32]chan answer
	cause   error
	broken  chan struct{}
}

type answer struct {
	zxid int64
	err  error // a code
	decoder
}

var (
	errExpired = errors.New("the session has expired")
	errClosed  = errors.New("the store has been closed")
	errRefused = errors.New("the server closed the connection without an answer: it may lag behind, or be out of its quorum")
)

const maxAnswer = 16 << 20

// attach makes a connection to one server and attaches it to a session; one without an id is created. Either way the leader of the
// servers has heard of the session after this call began.
func attach(ctx context.Context, c *Config, server string, s session, seen int64) (*conn, error) {
	s.touched = c.Clock()
	dialer := net.Dialer{KeepAlive: 10 * time.Second}
	raw, err := dialer.DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	if c.TLS {
		secure, err := c.secure(server)
		if err == nil {
			client := tls.Client(raw, secure)
			if err = client.HandshakeContext(ctx); err == nil {
				raw = client
			}
		}
		if err != nil {
			raw.Close()
			return nil, fmt.Errorf("TLS with %s: %w", server, err)
		}
	}
	out := &conn{net: raw, waiting: map[int32]chan answer{}, broken: make(chan struct{}), count: func(string) {}}
	end, _ := ctx.Deadline()
	_ = raw.SetDeadline(end)
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	if out.session, err = shake(raw, s, seen); err != nil {
		raw.Close()
		return nil, err
	}
	_ = raw.SetDeadline(time.Time{})
	return out, nil
}

// shake sends the first request of a connection and reads its answer.
func shake(raw net.Conn, s session, seen int64) (session, error) {
	password := s.password
	if password == nil {
		password = make([]byte, 16)
	}
	body := encoder(nil).int(0).long(seen).int(int32(s.ttl.Milliseconds())).long(s.id).bytes(password).bool(false)
	if _, err := raw.Write(append(encoder(nil).int(int32(len(body))), body...)); err != nil {
		return s, err
	}
	frame, err := readFrame(raw)
	if errors.Is(err, io.EOF) {
		return s, errRefused
	}
	if err != nil {
		return s, err
	}
	d := decoder{rest: frame}
	d.int() // version of the protocol
	timeout := time.Duration(d.int()) * time.Millisecond
	id := d.long()
	password = append([]byte(nil), d.bytes()...)
	switch {
	case d.short:
		return s, errShort
	case id == 0 || timeout <= 0:
		return s, errExpired
	case s.id != 0 && id != s.id:
		return s, fmt.Errorf("attach to session %s: the server answers with %s", s, sessionText(id))
	}
	if s.id != 0 { // a new leader of the servers goes by what was granted first
		timeout = min(timeout, s.timeout)
	}
	s.id, s.password, s.timeout = id, password, timeout
	return s, nil
}

func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxAnswer {
		return nil, fmt.Errorf("an answer of %d bytes, want %d at most: is this ZooKeeper?", n, maxAnswer)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(r, frame)
	return frame, err
}

// serve hands out answers until the connection breaks. silence is how long nothing may come; 0: for ever.
func (c *conn) serve(silence time.Duration) {
	for {
		if silence > 0 {
			_ = c.net.SetReadDeadline(time.Now().Add(silence))
		}
		frame, err := readFrame(c.net)
		if err != nil {
			c.close(err)
			return
		}
		d := decoder{rest: frame}
		xid, zxid, result := d.int(), d.long(), code(d.int())
		if d.short {
			c.close(errShort)
			return
		}
		if c.heard != nil && zxid > 0 {
			c.heard(zxid)
		}
		switch xid {
		case xidPing:
			continue
		case xidEvent:
			d.int() // what happened: we read the node again in any case
			d.int()
			if path := d.text(); c.event != nil {
				c.event(path)
			}
			continue
		}
		c.mu.Lock()
		to := c.waiting[xid]
		delete(c.waiting, xid)
		c.mu.Unlock()
		if to == nil {
			c.close(fmt.Errorf("an answer to request %d, which was not sent", xid))
			return
		}
		a := answer{zxid: zxid, decoder: d}
		if result != 0 {
			a.err = result
		}
		to <- a
	}
}

// close ends the connection; the session lives on.
func (c *conn) close(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.cause = cause
		close(c.broken)
		c.net.Close()
	}
}

// send sends requests in one go.
func (c *conn) send(all ...request) ([]chan answer, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	var out encoder
	answers := make([]chan answer, len(all))
	c.mu.Lock()
	for i, r := range all {
		xid := int32(xidAuth)
		switch r.op {
		case opPing:
			xid = xidPing
		case opAuth:
		default:
			c.last = c.last%(1<<30) + 1
			xid = c.last
		}
		answers[i] = make(chan answer, 1)
		if xid != xidPing {
			c.waiting[xid] = answers[i]
		}
		out = append(out.int(int32(8+len(r.body))).int(xid).int(r.op), r.body...)
	}
	c.mu.Unlock()
	for _, r := range all {
		c.count(r.kind)
	}
	_ = c.net.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.net.Write(out); err != nil {
		c.close(err)
		return nil, err
	}
	return answers, nil
}

// call sends requests and waits for all answers. Without them nobody knows what was done, and the connection is given up, so
// that what is late cannot be taken for anything else.
func (c *conn) call(ctx context.Context, all ...request) ([]answer, error) {
	waiting, err := c.send(all...)
	if err != nil {
		return nil, unavailable(all[0].kind, err)
	}
	answers := make([]answer, len(waiting))
	for i, w := range waiting {
		select {
		case answers[i] = <-w:
		case <-c.broken:
			select { // it broke after the answer had come
			case answers[i] = <-w:
				continue
			default:
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			return nil, unavailable(all[i].kind, c.cause)
		case <-ctx.Done():
			c.close(ctx.Err())
			return nil, unavailable(all[i].kind, ctx.Err())
		}
	}
	for i, r := range all {
		if r.op == opMulti && answers[i].err == nil {
			answers[i].err = answers[i].refusal()
		}
	}
	return answers, nil
}

// refusal is why a multi did nothing; nil: it did all. Each part has an answer; where nothing was done all of them are codes, and all but one
// say that it is not their fault.
func (a answer) refusal() error {
	for {
		kind := a.int()
		done, _ := a.bool(), a.int()
		if kind != opError || done {
			return nil
		}
		if no := code(a.int()); a.short {
			return errShort
		} else if no != 0 {
			return no
		}
	}
}

// one is call for one request, whose error may be a code.
func (c *conn) one(ctx context.Context, r request) (answer, error) {
	all, err := c.call(ctx, r)
	if err != nil {
		return answer{}, err
	}
	return all[0], all[0].err
}

// greet shows the credentials, which count for one connection.
func (c *conn) greet(ctx context.Context, auth []Credential) error {
	for _, a := range auth { // one after the other: their answers bear no number
		body := encoder(nil).int(0).text(a.Scheme).text(a.Secret)
		if _, err := c.one(ctx, request{"auth", opAuth, body}); err != nil {
			return classify("auth with scheme "+a.Scheme, err)
		}
	}
	return nil
}

func unavailable(what string, cause error) error {
	return fmt.Errorf("zookeeper %s: %w: %w", what, dcs.ErrUnavailable, cause)
}

// classify turns a code that no caller has a use for into a class of the contract.
func classify(what string, err error) error {
	var no code
	switch {
	case err == nil || errors.Is(err, dcs.ErrUnavailable):
		return err
	case errors.As(err, &no) && (no == errNoAuth || no == errAuthFailed):
		return fmt.Errorf("zookeeper %s: %w: %w", what, dcs.ErrDenied, err)
	}
	return unavailable(what, err)
}
