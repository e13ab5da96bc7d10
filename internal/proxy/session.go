package proxy

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

// session is a client and the member that it was connected to.
type session struct {
	client, server *net.TCPConn

	started  func(*session) // called once the client has got through
	starting bool           // the route's
}

// relay copies both ways until the member is done, or the client is gone. It returns how many bytes went up to the member, and down.
func (s *session) relay() (up, down int64) {
	var upwards sync.WaitGroup
	upwards.Go(func() {
		var err error
		if up, err = io.Copy(s.server, s.client); err != nil { // the kernel moves the bytes: splice(2)
			s.cut()
			return
		}
		_ = s.server.CloseWrite()
	})
	down = s.answer()
	s.client.Close() // what the member said last is on its way
	s.cut()
	upwards.Wait()
	return up, down
}

// cut ends the session now. What has not left for the member never will: it must not arrive at a primary of the past.
func (s *session) cut() {
	_ = s.server.SetLinger(0)
	s.server.Close()
	s.client.Close()
}

// afterTLS is how long a client whose bytes cannot be read is taken to be connecting.
const afterTLS = 500 * time.Millisecond

// answer copies what the member says. Of the beginning it looks at as much as tells when the client has got through.
func (s *session) answer() (bytes int64) {
	var start startup
	buffer := make([]byte, 4096)
	for start.waits() {
		n, err := s.server.Read(buffer)
		start.see(buffer[:n])
		bytes += int64(n)
		if _, late := s.client.Write(buffer[:n]); err != nil || late != nil {
			s.started(s)
			return bytes
		}
	}
	if start.secret {
		defer time.AfterFunc(afterTLS, func() { s.started(s) }).Stop()
	} else {
		s.started(s)
	}
	n, _ := io.Copy(s.client, s.server)
	return bytes + n
}

// startup reads what a PostgreSQL says until it is ready for the first query (PostgreSQL, "Message Formats").
type startup struct {
	secret bool // encrypted from here on
	ready  bool
	framed bool // single bytes, the answers to requests for encryption, are over
	skip   int  // bytes of the present message that are still to come
	head   []byte
}

func (u *startup) waits() bool { return !u.secret && !u.ready }

func (u *startup) see(p []byte) {
	for len(p) > 0 && u.waits() {
		if u.skip > 0 {
			n := min(u.skip, len(p))
			u.skip, p = u.skip-n, p[n:]
			continue
		}
		if !u.framed && len(u.head) == 0 {
			switch p[0] {
			case 'N': // no encryption; the client may go on without
				p = p[1:]
				continue
			case 'R', 'E', 'v':
				u.framed = true
			default: // TLS, GSSAPI, or no PostgreSQL at all
				u.secret = true
				return
			}
		}
		n := min(5-len(u.head), len(p))
		u.head, p = append(u.head, p[:n]...), p[n:]
		if len(u.head) < 5 {
			return
		}
		length := int(binary.BigEndian.Uint32(u.head[1:]))
		if length < 4 || length > 1<<24 {
			u.secret = true
			return
		}
		u.ready, u.skip, u.head = u.head[0] == 'Z', length-4, u.head[:0]
	}
}

// refuse tells a client why it gets nobody, in the words of PostgreSQL's protocol; one that asks for encryption first takes it for an old server's.
func refuse(client *net.TCPConn, why string) {
	_ = client.SetDeadline(time.Now().Add(time.Second))
	var fields []byte
	for _, f := range []string{"SFATAL", "VFATAL", "C57P03", "M" + why} {
		fields = append(append(fields, f...), 0)
	}
	message := binary.BigEndian.AppendUint32([]byte{'E'}, uint32(4+len(fields)+1))
	if _, err := client.Write(append(append(message, fields...), 0)); err != nil {
		return
	}
	_ = client.CloseWrite()
	_, _ = io.Copy(io.Discard, client) // closing on top of unread bytes would take the message back
}
