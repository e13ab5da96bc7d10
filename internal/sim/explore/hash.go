package explore

import (
	"hash/maphash"
	"reflect"
	"slices"
	"strings"
	"unsafe"

	"github.com/regent-ha/regent/internal/cluster"
	"github.com/regent-ha/regent/internal/ha"
)

var seed = maphash.MakeSeed()

// hasher walks a value. Two states with the same hash are taken for one: with 64 bits and some million states that
// hides a state in one of about a million runs.
type hasher struct {
	maphash.Hash
	snapshots map[*cluster.Snapshot]uint64
}

func (w *world) hash() uint64 {
	h := hasher{snapshots: w.snapshots}
	h.SetSeed(seed)
	h.value(reflect.ValueOf(&w.state).Elem())
	for i := range w.members[:w.bounds.Members] {
		h.value(reflect.ValueOf(&w.members[i]).Elem())
	}
	return h.Sum64()
}

var (
	snapshotType = reflect.TypeFor[*cluster.Snapshot]()
	viewType     = reflect.TypeFor[ha.View]()
	decisionType = reflect.TypeFor[ha.Decision]()
)

func (h *hasher) number(n uint64) {
	var b [8]byte
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
	_, _ = h.Write(b[:])
}

func (h *hasher) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			_ = h.WriteByte(1)
		} else {
			_ = h.WriteByte(0)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		h.number(uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		h.number(v.Uint())
	case reflect.String:
		_, _ = h.WriteString(v.String())
		_ = h.WriteByte(0)
	case reflect.Pointer:
		switch {
		case v.IsNil():
			_ = h.WriteByte(2)
		case v.Type() == snapshotType:
			h.number(h.snapshot((*cluster.Snapshot)(unsafe.Pointer(v.Pointer()))))
		default:
			h.value(v.Elem())
		}
	case reflect.Interface:
		if v.IsNil() {
			_ = h.WriteByte(3)
			return
		}
		_, _ = h.WriteString(v.Elem().Type().String())
		h.value(v.Elem())
	case reflect.Slice, reflect.Array:
		h.number(uint64(v.Len()))
		for i := range v.Len() {
			h.value(v.Index(i))
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			h.value(k)
			h.value(v.MapIndex(k))
		}
	case reflect.Struct:
		t := v.Type()
		switch t {
		case viewType: // what the last decision saw; the next one sees anew
			return
		case decisionType: // what is left of it is in the loop
			h.value(v.FieldByName("Within"))
			return
		}
		for i := range v.NumField() {
			switch t.Field(i).Name {
			case "Detail", "Errors", "loc", "Limits", "Tags", "Self", "Former": // words for people; a time's place; what is the same everywhere
			default:
				h.value(v.Field(i))
			}
		}
	}
}

// snapshot hashes what a snapshot says, once.
func (h *hasher) snapshot(s *cluster.Snapshot) uint64 {
	if n, ok := h.snapshots[s]; ok {
		return n
	}
	inner := hasher{snapshots: h.snapshots}
	inner.SetSeed(seed)
	inner.value(reflect.ValueOf(s).Elem())
	n := inner.Sum64()
	h.snapshots[s] = n
	return n
}
