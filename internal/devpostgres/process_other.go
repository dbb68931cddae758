//go:build unix && !linux

package devpostgres

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// endWithParent: there is no such thing here; a server whose parent is killed
// stays until the next start reports it.
func endWithParent(*syscall.SysProcAttr) {}

func zombie(int) bool { return false }

func childrenOf(pid int) []int {
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output() //nolint:gosec,noctx // a number
	if err != nil {
		return nil
	}
	var children []int
	for _, f := range strings.Fields(string(out)) {
		if n, err := strconv.Atoi(f); err == nil {
			children = append(children, n)
		}
	}
	return children
}

// serves says whether the process may be a server.
func serves(pid int, _ string) bool {
	out, err := exec.Command("ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output() //nolint:gosec,noctx // a number
	return err != nil || strings.Contains(string(out), "postgres")
}
