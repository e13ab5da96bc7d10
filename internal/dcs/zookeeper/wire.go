package zookeeper

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Numbers of ZooKeeper's protocol (its ZooDefs.OpCode and KeeperException.Code).
const (
	opDelete      = 2
	opExists      = 3
	opGetData     = 4
	opSetData     = 5
	opGetChildren = 8
	opSync        = 9
	opPing        = 11
	opCheck       = 13
	opMulti       = 14
	opCreate      = 1
	opCreate2     = 15 // create, and tell the node's numbers; since 3.5
	opAuth        = 100
	opAddWatch    = 106 // since 3.6
	opClose       = -11
	opError       = -1

	xidEvent = -1
	xidPing  = -2
	xidAuth  = -4

	recursive = 1 // mode of a watch: this node and all below, until the connection ends
	anyone    = -1
)

// code is an answer other than yes: nothing was done.
type code int32

const (
	errUnimplemented  code = -6
	errNoNode         code = -101
	errNoAuth         code = -102
	errBadVersion     code = -103
	errNodeExists     code = -110
	errNotEmpty       code = -111
	errSessionExpired code = -112
	errAuthFailed     code = -115
	errSessionMoved   code = -118
)

var codeTexts = map[code]string{
	errUnimplemented: "the server does not know this request; want ZooKeeper 3.6 or later", errNoNode: "no such node",
	errNoAuth: "these credentials may not do that", errBadVersion: "the node has another version", errNodeExists: "the node exists",
	errNotEmpty: "the node has children", errSessionExpired: "the session has expired", errAuthFailed: "the credentials are wrong",
	errSessionMoved: "the session has moved to another connection",
}

func (c code) Error() string {
	if text, ok := codeTexts[c]; ok {
		return text
	}
	return fmt.Sprintf("ZooKeeper answers with code %d", int32(c))
}

var errShort = errors.New("an answer of ZooKeeper is cut short")

// encoder appends what a request is made of.
type encoder []byte

func (e encoder) int(n int32) encoder  { return binary.BigEndian.AppendUint32(e, uint32(n)) }
func (e encoder) long(n int64) encoder { return binary.BigEndian.AppendUint64(e, uint64(n)) }
func (e encoder) bool(b bool) encoder {
	if b {
		return append(e, 1)
	}
	return append(e, 0)
}
func (e encoder) bytes(b []byte) encoder { return append(e.int(int32(len(b))), b...) }
func (e encoder) text(s string) encoder  { return append(e.int(int32(len(s))), s...) }

// decoder takes an answer apart; what is missing reads as zero and shows in short.
type decoder struct {
	rest  []byte
	short bool
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.rest) {
		d.short, d.rest = true, nil
		return make([]byte, 8)
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) int() int32   { return int32(binary.BigEndian.Uint32(d.take(4))) }
func (d *decoder) long() int64  { return int64(binary.BigEndian.Uint64(d.take(8))) }
func (d *decoder) bool() bool   { return d.take(1)[0] != 0 }
func (d *decoder) text() string { return string(d.bytes()) }
func (d *decoder) bytes() []byte {
	n := int(d.int())
	if n <= 0 { // -1: none
		return nil
	}
	if b := d.take(n); !d.short {
		return b
	}
	return nil
}

// request is one request; kind is what it is counted as.
type request struct {
	kind string
	op   int32
	body encoder
}

// stat is what ZooKeeper knows about a node beside its value.
type stat struct {
	created, changed int64 // zxid
	version          int32 // writes since the node was created
	owner            int64 // the session that an ephemeral node lives by; 0: it is persistent
}

func (d *decoder) stat() (s stat) {
	s.created, s.changed = d.long(), d.long()
	d.long() // times of creation and change, on the server's clock
	d.long()
	s.version = d.int()
	d.int() // versions of the children and of the ACL
	d.int()
	s.owner = d.long()
	d.int() // length of the value, number of children
	d.int()
	d.long()
	return s
}

// ACL says what somebody may do with a node.
type ACL struct {
	Permissions int32 // the sum of Read to Admin
	Scheme, ID  string
}

// Permissions on a node.
const (
	Read, Write, Create, Delete, Admin = 1, 2, 4, 8, 16
	All                                = Read | Write | Create | Delete | Admin
)

func createBody(path string, value []byte, acl []ACL, ephemeral bool) encoder {
	e := encoder(nil).text(path).bytes(value).int(int32(len(acl)))
	for _, a := range acl {
		e = e.int(a.Permissions).text(a.Scheme).text(a.ID)
	}
	if ephemeral {
		return e.int(1)
	}
	return e.int(0)
}

func create(path string, value []byte, acl []ACL, ephemeral bool) request {
	return request{"create", opCreate2, createBody(path, value, acl, ephemeral)}
}
func remove(path string, version int32) request {
	return request{"delete", opDelete, encoder(nil).text(path).int(version)}
}
func get(path string) request {
	return request{"get", opGetData, encoder(nil).text(path).bool(false)}
}
func exists(path string) request {
	return request{"exists", opExists, encoder(nil).text(path).bool(false)}
}
func set(path string, value []byte, version int32) request {
	return request{"set", opSetData, encoder(nil).text(path).bytes(value).int(version)}
}
func children(path string) request {
	return request{"children", opGetChildren, encoder(nil).text(path).bool(false)}
}
func flush(path string) request { return request{"sync", opSync, encoder(nil).text(path)} }
func watch(path string) request {
	return request{"watch", opAddWatch, encoder(nil).text(path).int(recursive)}
}

var closeSession = request{"close", opClose, nil}

// multi does all of it or nothing, in one transaction.
func multi(all ...request) request {
	var e encoder
	for _, r := range all {
		e = append(e.int(r.op).bool(false).int(-1), r.body...)
	}
	return request{"multi", opMulti, e.int(-1).bool(true).int(-1)}
}

// check is the part of a multi that asks for a version and writes nothing.
func check(path string, version int32) request {
	return request{"check", opCheck, encoder(nil).text(path).int(version)}
}

// replace is the pair that gives an ephemeral node to the session that sends it.
func replace(path string, value []byte, acl []ACL, version int32) request {
	return multi(remove(path, version), request{"create", opCreate, createBody(path, value, acl, true)})
}
