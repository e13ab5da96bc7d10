package logging

import (
	"fmt"
	"os"
)

// rotating is a log file that begins anew when it is full: patroni.log, patroni.log.1, ... Its owner writes one record at a time.
type rotating struct {
	path string
	mode os.FileMode // 0: what the umask leaves of 0666
	most int64       // bytes
	keep int         // old files
	file *os.File
	size int64
}

func (r *rotating) open() error {
	mode := r.mode
	if mode == 0 {
		mode = 0o666
	}
	f, err := os.OpenFile(r.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && r.mode != 0 {
		err = f.Chmod(r.mode)
	}
	if err != nil {
		f.Close()
		return err
	}
	r.file, r.size = f, info.Size()
	return nil
}

func (r *rotating) Write(b []byte) (int, error) {
	if r.most > 0 && r.keep > 0 && r.size > 0 && r.size+int64(len(b)) > r.most {
		r.rotate()
	}
	n, err := r.file.Write(b)
	r.size += int64(n)
	return n, err
}

// rotate shifts the old files by one. When that fails the present file goes on: better too long than lost.
func (r *rotating) rotate() {
	name := func(n int) string { return fmt.Sprintf("%s.%d", r.path, n) }
	for n := r.keep - 1; n > 0; n-- {
		_ = os.Rename(name(n), name(n+1))
	}
	old := r.file
	if os.Rename(r.path, name(1)) != nil || r.open() != nil {
		r.size = 0 // try again a file's length later
		return
	}
	old.Close()
}

func (r *rotating) close() { _ = r.file.Close() }
