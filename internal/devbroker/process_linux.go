package devbroker

import "syscall"

// processAttributes puts a process out of reach of the terminal's Ctrl-C, and
// lets it die with the parent unless it is detached.
func processAttributes(detached bool) *syscall.SysProcAttr {
	if detached {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
