package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/regent-ha/regent/internal/cluster"
)

// Records are read from the WAL files themselves: two runs of pg_waldump per shutdown are slow, and the end of the WAL
// could be learned from them only by the text of an error, which changed between versions (L45). The layout of pages
// and record headers is the same in 13 to 18 (src/include/access/xlog_internal.h, xlogrecord.h), and the
// record's own CRC proves each reading.

const (
	walPage       = 8192
	recordHeader  = 24                   // XLogRecord: length 4, xid 4, previous 8, info 1, rmgr 1, padding 2, crc 4
	longestRecord = 64 << 10             // of those that we read, but for half ones: checkpoints and switches are about 100 bytes
	rmgrXLOG      = 0                    // resource manager of the records about the WAL itself
	infoSwitch    = 0x40                 // XLOG_SWITCH
	longHeader    = 40                   // of the first page of a segment
	shortHeader   = 24                   // of every other page
	minSegment    = cluster.LSN(1) << 20 // wal_segment_size
	maxSegment    = cluster.LSN(1) << 30
)

// record is one WAL record's head.
type record struct {
	at, end    cluster.LSN // end: where the next record begins, as PostgreSQL counts it
	previous   cluster.LSN
	rmgr, info byte
}

var (
	errNoRecord = errors.New("no valid WAL record")
	errNoLength = fmt.Errorf("%w: nothing begins there", errNoRecord)
)

// readRecord reads and proves the record at a position.
func (p *Instance) readRecord(at cluster.LSN, tl cluster.Timeline) (record, error) {
	return p.readRecordUpTo(at, tl, longestRecord)
}

func (p *Instance) readRecordUpTo(at cluster.LSN, tl cluster.Timeline, longest int) (record, error) {
	r, err := p.walFile(at, tl)
	if err != nil {
		return record{}, err
	}
	defer r.close()
	head, err := r.take(8)
	if err != nil {
		return record{}, fmt.Errorf("read WAL record at %s: %w", at, err)
	}
	length := int(binary.NativeEndian.Uint32(head))
	switch {
	case length < recordHeader:
		return record{}, fmt.Errorf("read WAL record at %s on timeline %d: %w: its length is %d", at, tl, errNoLength, length)
	case length > longest:
		return record{}, fmt.Errorf("read WAL record at %s on timeline %d: %w: its length is %d", at, tl, errNoRecord, length)
	}
	rest, err := r.take(recordHeader - len(head))
	if err != nil {
		return record{}, fmt.Errorf("read WAL record at %s: %w", at, err)
	}
	head = append(head, rest...)
	crc := uint32(0)
	for left := length - recordHeader; left > 0; {
		part, err := r.take(min(left, longestRecord))
		if err != nil {
			return record{}, fmt.Errorf("read WAL record at %s: %w", at, err)
		}
		crc = crc32.Update(crc, castagnoli, part)
		left -= len(part)
	}
	if crc32.Update(crc, castagnoli, head[:recordHeader-4]) != binary.NativeEndian.Uint32(head[recordHeader-4:]) {
		return record{}, fmt.Errorf("read WAL record at %s on timeline %d: %w: its checksum does not match", at, tl, errNoRecord)
	}
	return record{
		at: at, end: (r.at + 7) &^ 7,
		previous: cluster.LSN(binary.NativeEndian.Uint64(head[8:])),
		info:     head[16], rmgr: head[17],
	}, nil
}

// walSwitchBefore returns the position of the WAL switch right before the shutdown checkpoint, 0 when something else stands
// there: with archiving on, a shutdown switches to a new segment first, and everybody who has replayed up to the
// switch has everything that matters.
func (p *Instance) walSwitchBefore(checkpoint cluster.LSN, tl cluster.Timeline) (cluster.LSN, error) {
	last, err := p.readRecord(checkpoint, tl)
	if err != nil {
		return 0, err
	}
	before, err := p.readRecord(last.previous, tl)
	if err != nil {
		return 0, err
	}
	if before.rmgr == rmgrXLOG && before.info&0xF0 == infoSwitch {
		return before.at, nil
	}
	return 0, nil
}

// walReader reads on from a position, over page headers and segment ends.
type walReader struct {
	dir     string
	tl      cluster.Timeline
	segment cluster.LSN // size
	file    *os.File
	number  cluster.LSN // of the open segment
	at      cluster.LSN
}

func (r *walReader) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// walFile opens the WAL at a position; the size of segments is learned from the size of a file, all of which are of one size.
func (p *Instance) walFile(at cluster.LSN, tl cluster.Timeline) (*walReader, error) {
	dir := filepath.Join(p.Settings().DataDir, "pg_wal")
	size, err := segmentSize(dir)
	if err != nil {
		return nil, err
	}
	r := &walReader{dir: dir, tl: tl, segment: size, at: at}
	return r, r.open()
}

func segmentSize(dir string) (cluster.LSN, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("read WAL: %w", err)
	}
	for _, e := range entries {
		if len(e.Name()) != 24 {
			continue
		}
		if info, err := e.Info(); err == nil {
			if size := cluster.LSN(info.Size()); size >= minSegment && size <= maxSegment && size&(size-1) == 0 {
				return size, nil
			}
		}
	}
	return 0, fmt.Errorf("read WAL: no segment in %s", dir)
}

// segmentName is the file name of the segment that holds a position.
func segmentName(tl cluster.Timeline, number, size cluster.LSN) string {
	perID := (cluster.LSN(1) << 32) / size
	return fmt.Sprintf("%08X%08X%08X", uint32(tl), uint32(number/perID), uint32(number%perID))
}

func (r *walReader) open() error {
	r.close()
	r.number = r.at / r.segment
	var err error
	if r.file, err = os.Open(filepath.Join(r.dir, segmentName(r.tl, r.number, r.segment))); err != nil {
		return fmt.Errorf("read WAL at %s: %w", r.at, err)
	}
	return nil
}

// take returns the next n bytes of record data.
func (r *walReader) take(n int) ([]byte, error) {
	var out []byte
	for len(out) < n {
		if r.at%walPage == 0 {
			if r.at%r.segment == 0 {
				r.at += longHeader
			} else {
				r.at += shortHeader
			}
		}
		if r.at/r.segment != r.number {
			if err := r.open(); err != nil {
				return nil, err
			}
		}
		part := make([]byte, min(n-len(out), int(walPage-r.at%walPage)))
		if _, err := r.file.ReadAt(part, int64(r.at%r.segment)); err != nil {
			return nil, err
		}
		out = append(out, part...)
		r.at += cluster.LSN(len(part))
	}
	return out, nil
}
