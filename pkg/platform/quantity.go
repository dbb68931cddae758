package platform

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that platform files write as "30s", "24h", "7d"
// or "forever".
type Duration time.Duration

// Forever is the Duration without an end.
const Forever Duration = -1

// Milliseconds returns the duration in ms; -1 for Forever, as Kafka has it.
func (d Duration) Milliseconds() int64 {
	if d == Forever {
		return -1
	}
	return time.Duration(d).Milliseconds()
}

// String returns the duration as it may stand in a platform file.
func (d Duration) String() string {
	switch {
	case d == Forever:
		return "forever"
	case d > 0 && time.Duration(d)%day == 0:
		return strconv.FormatInt(int64(time.Duration(d)/day), 10) + "d"
	}
	s := time.Duration(d).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}

// ParseDuration reads a duration as platform files write it.
func ParseDuration(s string) (Duration, error) {
	if s == "forever" {
		return Forever, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err == nil && n >= 0 && n <= 36500 {
			return Duration(n * float64(day)), nil
		}
	} else if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return Duration(d), nil
	}
	return 0, fmt.Errorf("%q is not a duration; write it like 500ms, 30s, 24h, 7d or forever", s)
}

// Size is a number of bytes that platform files write as 1048576, "512KiB",
// "1MiB" or "2GiB".
type Size int64

var sizeUnits = []struct {
	suffix string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// String returns the size as it may stand in a platform file.
func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if u := sizeUnits[i]; s != 0 && int64(s)%u.factor == 0 {
			return strconv.FormatInt(int64(s)/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// ParseSize reads a size as platform files write it.
func ParseSize(s string) (Size, error) {
	number, factor := s, int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return 0, fmt.Errorf("%q is not a size; write it like 1048576, 512KiB, 1MiB or 2GiB", s)
	}
	return Size(n * factor), nil
}
