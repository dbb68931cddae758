//go:build !linux

package devbroker

import "syscall"

// processAttributes puts a process out of reach of the terminal's Ctrl-C. Only
// Linux can tie its life to that of the parent.
func processAttributes(detached bool) *syscall.SysProcAttr {
	if detached {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true}
}
