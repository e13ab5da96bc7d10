package guard

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/regent-ha/regent/internal/guard/process"
)

// files are the shared memory, and the FIFO through which the guard is woken and knows that an agent lives.
type files struct {
	name   string
	memory int // descriptors: an os.File would change how the FIFO blocks
	fifo   int
	mapped []byte
	shared *process.Shared
}

// memoryDirs are where the shared memory may be. What is in /dev/shm is never written to a disk.
var memoryDirs = []string{"/dev/shm", os.TempDir()}

// possession is how long an agent waits for another one of the same data directory to let go: one that is leaving at this moment.
const possession = 2 * time.Second

// fileName is the same for each agent of this user on this data directory, and differs between containers that share /dev/shm: a
// guard kills in its own process namespace only.
func fileName(data string, user int) string {
	namespace, _ := os.Readlink("/proc/self/ns/pid")
	return fmt.Sprintf("regent-guard-%d-%x", user, sha256.Sum256([]byte(data+"\x00"+namespace)))[:48]
}

// ownerOf is the user whose agent looks after a data directory: its owner, as PostgreSQL accepts no other.
func ownerOf(dataDir string) int {
	for _, dir := range []string{dataDir, filepath.Dir(dataDir)} {
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil {
			return int(st.Uid)
		}
	}
	return os.Geteuid()
}

// Files lists the files that a guard of that data directory uses, whether they exist or not.
func Files(dataDir string) (list []string) {
	for _, dir := range memoryDirs {
		name := filepath.Join(dir, fileName(realPath(dataDir), ownerOf(dataDir)))
		list = append(list, name, name+".wake")
	}
	return list
}

// openFiles opens or makes the files in the first directory that allows it, and becomes their only agent.
func openFiles(data string) (*files, error) {
	var problems error
	for _, dir := range memoryDirs {
		f, err := possess(filepath.Join(dir, fileName(data, os.Geteuid())))
		if err == nil {
			return f, nil
		}
		problems = errors.Join(problems, err)
		if errors.Is(err, errTaken) {
			break
		}
	}
	return nil, problems
}

var errTaken = errors.New("another agent looks after this data directory")

// possess opens the files under a lock. A guard that ends takes the same lock to remove them, so a file that has lost its name
// meanwhile is opened anew.
func possess(name string) (*files, error) {
	for deadline := time.Now().Add(possession); ; time.Sleep(10 * time.Millisecond) { // a lock that is given up announces nothing
		memory, err := openOwned(name, os.Geteuid(), unix.O_RDWR|unix.O_CREAT, unix.S_IFREG)
		if err != nil {
			return nil, err
		}
		f := &files{name: name, memory: memory, fifo: -1}
		err = unix.Flock(memory, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && f.named() {
			if err = f.open(); err == nil {
				return f, nil
			}
			f.close()
			return nil, err
		}
		_ = unix.Close(memory)
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("lock %s: %w; stop it, frozen or not", name, errTaken)
		}
	}
}

// openOwn opens a file that must be ours and nobody else's to read or write.
func openOwned(name string, user, flags int, kind uint32) (fd int, err error) {
	fd, err = unix.Open(name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (int(st.Uid) != user || st.Mode&0o077 != 0 || st.Mode&unix.S_IFMT != kind || st.Nlink > 1) {
		err = fmt.Errorf("%s has owner %d and mode %o, want one of user %d alone: remove it", name, st.Uid, st.Mode, user)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// named says whether the file still is the one under its name.
func (f *files) named() bool {
	var have, want unix.Stat_t
	return unix.Fstat(f.memory, &have) == nil && unix.Lstat(f.name, &want) == nil && have.Dev == want.Dev && have.Ino == want.Ino
}

// open maps the memory, empties what another boot of the machine has left, and opens the FIFO for writing: from here on the
// guard knows that an agent lives.
func (f *files) open() error {
	if err := unix.Ftruncate(f.memory, process.Size); err != nil {
		return fmt.Errorf("size %s: %w", f.name, err)
	}
	var err error
	if f.mapped, err = unix.Mmap(f.memory, 0, process.Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map %s: %w", f.name, err)
	}
	f.shared = (*process.Shared)(unsafe.Pointer(&f.mapped[0]))
	if boot := bootNumber(); f.shared.Boot.Load() != boot {
		clear(f.mapped) // no guard can live: nobody else looks at it
		f.shared.Layout.Store(process.Layout)
		f.shared.Boot.Store(boot)
	}
	wake := f.name + ".wake"
	if err := unix.Mkfifo(wake, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make %s: %w", wake, err)
	}
	f.fifo, err = openOwned(wake, os.Geteuid(), unix.O_RDWR, unix.S_IFIFO)
	return err
}

// bootNumber is a number that differs between two boots of the machine; never 0.
func bootNumber() int64 {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	sum := sha256.Sum256(id)
	return int64(uint64(sum[0])<<48|uint64(sum[1])<<40|uint64(sum[2])<<32|uint64(sum[3])<<24|uint64(sum[4])<<16|uint64(sum[5])<<8) | 1
}

// holder is the process that holds the guard's lock on the shared memory; 0: no guard lives.
func (f *files) holder() int {
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(uintptr(f.memory), unix.F_GETLK, &l); err != nil || l.Type == unix.F_UNLCK {
		return 0
	}
	return int(l.Pid)
}

// wake makes the guard look at its order. A full FIFO wakes it as well.
func (f *files) wake() { _, _ = unix.Write(f.fifo, []byte{1}) }

// close gives the files up, the lock first: a guard that sees us go looks for it. The memory stays mapped, and with it the
// description that holds the lock, so that has to be given up by name.
func (f *files) close() {
	_ = unix.Flock(f.memory, unix.LOCK_UN)
	_ = unix.Close(f.memory)
	if f.fifo >= 0 {
		_ = unix.Close(f.fifo)
	}
}
