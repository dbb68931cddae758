package devpostgres

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// owner is the user that PostgreSQL runs as when this process is root. A nil
// owner is this process's own user, who needs no help.
type owner struct {
	name     string
	uid, gid uint32
}

// unprivileged returns nil unless this process is root.
func unprivileged() (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // as said
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &owner{name, uint32(uid), uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody to run it as; start as another user")
}

// own gives a file or folder to the owner.
func (o *owner) own(path string) error {
	if o == nil {
		return nil
	}
	return os.Chown(path, int(o.uid), int(o.gid))
}

// blockedAt returns the topmost folder on the way to and including path that
// the owner cannot pass through, "" if there is none.
func (o *owner) blockedAt(path string) string {
	if o == nil {
		return ""
	}
	blocked := ""
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir) //nolint:gosec // only looks
		if err != nil {
			return dir
		}
		if !o.mayPass(info) {
			blocked = dir
		}
		if dir == filepath.Dir(dir) {
			return blocked
		}
	}
}

func (o *owner) mayPass(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	mode := info.Mode().Perm()
	switch {
	case st.Uid == o.uid:
		return mode&0o100 != 0
	case st.Gid == o.gid:
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

// temporaryDir makes a folder of the owner's that the owner can reach.
func temporaryDir(o *owner) (string, error) {
	parent := os.TempDir()
	if real, err := filepath.EvalSymlinks(parent); err == nil {
		parent = real
	}
	if o.blockedAt(parent) != "" {
		parent = "/tmp"
	}
	sweep(parent)
	dir, err := os.MkdirTemp(parent, temporaryPrefix)
	if err != nil {
		return "", err
	}
	return dir, o.own(dir)
}

const temporaryPrefix = "rkcy-postgres-"

// sweep removes temporary folders whose process was killed.
func sweep(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, temporaryPrefix+"*"))
	for _, dir := range dirs {
		path := filepath.Join(dir, "lock")
		if info, err := os.Stat(path); err != nil || time.Since(info.ModTime()) < time.Minute {
			continue // somebody is about to take it
		}
		lock, err := lockFile(path)
		if err != nil {
			continue // in use
		}
		pid, _ := postmaster(filepath.Join(dir, "data"))
		if pid == 0 || !serves(pid, filepath.Join(dir, "data")) {
			_ = os.RemoveAll(dir)
		}
		_ = lock.Close()
	}
}

// lockFile takes a lock that ends with this process at the latest.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // our own folder
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { //nolint:gosec // a file descriptor
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
