package cli

import "syscall"

// endWithParent makes the kernel kill a child when this process ends, however that
// happens. A group of its own keeps the terminal's interrupt from it: it is told
// in its turn.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
