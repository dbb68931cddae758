//go:build !linux

package chaos

import "syscall"

func endWithTest() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
