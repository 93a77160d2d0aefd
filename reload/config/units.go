package config

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Millis is a time in milliseconds.
type Millis int64

// Duration converts to Go's unit.
func (m Millis) Duration() time.Duration { return time.Duration(m) * time.Millisecond }

// Size is a number of bytes, written as a number or with K, M or G (powers of 1024).
type Size int64

func (s Size) String() string {
	for _, u := range []struct {
		shift uint
		name  string
	}{{30, "G"}, {20, "M"}, {10, "K"}} {
		if s > 0 && s&(1<<u.shift-1) == 0 {
			return strconv.FormatInt(int64(s>>u.shift), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

func parseSize(text string) (Size, bool) {
	t := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(text)), "B"), "I")
	shift := uint(0)
	if t != "" {
		if i := strings.IndexByte("KMG", t[len(t)-1]); i >= 0 {
			shift = uint(10 * (i + 1))
			t = strings.TrimSpace(t[:len(t)-1])
		}
	}
	n, err := strconv.ParseUint(t, 10, 63)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, false
	}
	return Size(n << shift), true
}
