package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user that agents and PostgreSQL run as.
type account struct {
	name     string
	uid, gid uint32
	other    bool // not the user of this process
}

// unprivileged is this process's own user, or, since neither an agent nor PostgreSQL runs as root, postgres, else nobody.
func unprivileged() (account, error) {
	if uid := os.Geteuid(); uid != 0 {
		a := account{name: strconv.Itoa(uid), uid: uint32(uid), gid: uint32(os.Getegid())}
		if u, err := user.LookupId(a.name); err == nil {
			a.name = u.Username
		}
		return a, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil && uid != 0 {
			return account{name, uint32(uid), uint32(gid), true}, nil
		}
	}
	return account{}, errors.New("choose a user for PostgreSQL, which does not run as root: have no user postgres or nobody; run the demo as an ordinary user")
}

// own gives a file to the account.
func (a account) own(path string) error {
	if !a.other {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// mkdir makes a directory that belongs to the account.
func (a account) mkdir(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return a.own(path)
}

// write writes a file that only the account reads: it may hold passwords.
func (a account) write(path string, text []byte) error {
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	return a.own(path)
}

// reaches checks that the account may pass through a directory and every one above it. The members run there.
func (a account) reaches(path string) error {
	if !a.other {
		return nil
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		pass := info.Mode().Perm() & 0o001
		if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid == a.uid {
			pass = info.Mode().Perm() & 0o100
		} else if ok && s.Gid == a.gid {
			pass = info.Mode().Perm() & 0o010
		}
		if pass == 0 {
			return fmt.Errorf("use directory %s: user %s, as whom PostgreSQL runs, cannot pass through %s (mode %04o); choose another place with --dir", path, a.name, dir, info.Mode().Perm())
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}
