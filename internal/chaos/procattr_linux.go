package chaos

import "syscall"

// endWithTest makes the kernel end a process when the test process ends,
// however that happens.
func endWithTest() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
