package devpostgres

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// endWithParent makes the kernel ask for a fast shutdown when the thread that
// starts the process ends.
func endWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGINT }

// stat returns the state and the parent of a process.
func stat(pid int) (state byte, parent int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	// pid (name) state parent …; the name may contain anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 2 {
		return 0, 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return fields[0][0], parent
}

func zombie(pid int) bool {
	state, _ := stat(pid)
	return state == 'Z' || state == 0
}

// childrenOf returns the children of a process. Each server process has a
// session of its own, so there is no group to signal.
func childrenOf(pid int) []int {
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	var out []int
	for _, n := range names {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(n)))
		if err != nil {
			continue
		}
		if _, parent := stat(child); parent == pid {
			out = append(out, child)
		}
	}
	return out
}

// serves says whether the process is a server on the data folder, which is
// every server's working folder.
func serves(pid int, dataDir string) bool {
	if zombie(pid) {
		return false
	}
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return true // it may be
	}
	return cwd == dataDir
}
