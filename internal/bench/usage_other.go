//go:build !linux

package main

import (
	"runtime"
	"time"
)

// readProcess fills in what is known without /proc: the memory that Go has from
// the operating system, without that of librdkafka.
func (u *usage) readProcess() error {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.RSSBytes = m.Sys - m.HeapReleased
	return nil
}

// ownCPU and cpuOf are not known here.
func ownCPU() time.Duration { return 0 }

func cpuOf(int) time.Duration { return 0 }

func loadAverage() float64 { return 0 }
