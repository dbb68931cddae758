package cli

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// leftovers looks for what an embedded run that was killed has left behind.
func (d *doctor) leftovers() {
	const check = "embedded data"
	dir, err := filepath.Abs(d.dataDir)
	if err != nil {
		d.add(check, checkFailed, "", "%v", err)
		return
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0) //nolint:gosec // the user's own folder
	if errors.Is(err, fs.ErrNotExist) {
		d.add(check, checkOK, "", "there is none in %s", dir)
		return
	}
	if err != nil {
		d.add(check, checkWarning, "", "%v", err)
		return
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { //nolint:gosec // a file descriptor
		d.add(check, checkOK, "", "%s is in use by an embedded run; the address of its broker is in its ready line", dir)
		return
	}
	if pid := postmasterOf(filepath.Join(dir, "postgres", "data")); pid > 0 {
		d.add(check, checkWarning, "the next \""+d.app.Name+" run --embedded\" takes care of it; or end it with kill -INT "+strconv.Itoa(pid),
			"the PostgreSQL of an embedded run that was killed still runs, process %d, with the data in %s", pid, dir)
		return
	}
	d.add(check, checkOK, "", "%s has the data of an embedded run that has ended; servers that the file names are others", dir)
}

// postmasterOf returns the process that serves a data folder of PostgreSQL, 0 if
// there is none.
func postmasterOf(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "postmaster.pid")) //nolint:gosec // the user's own folder
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	pid, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	if err != nil || pid <= 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return 0
	}
	return pid
}
