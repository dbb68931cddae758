//go:build !linux

package integration

import "syscall"

func endWithTest() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
