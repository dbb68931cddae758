package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// readProcess fills in what the operating system knows of this process.
func (u *usage) readProcess() error {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		var into *uint64
		switch name {
		case "VmRSS":
			into = &u.RSSBytes
		case "VmHWM":
			into = &u.PeakRSSBytes
		default:
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return fmt.Errorf("%s of this process: %w", name, err)
		}
		*into = n << 10
	}
	if err := lines.Err(); err != nil {
		return err
	}
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return err
	}
	u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	return nil
}
