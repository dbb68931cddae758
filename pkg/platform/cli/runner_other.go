//go:build !linux

package cli

import "syscall"

// endWithParent gives a child a group of its own, so that it is told in its turn
// to end. That this process has ended shows in its standard input.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
