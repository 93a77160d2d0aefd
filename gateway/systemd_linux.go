package gateway

import "golang.org/x/sys/unix"

// monotonicUsec is the time of the clock by which systemd tells whether a
// reload began after it asked for one (sd_notify(3)).
func monotonicUsec() uint64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return uint64(now.Nano() / 1000)
}

// isTCP reports whether a stream socket is of TCP and nothing akin: multipath
// TCP walks around rules that the kernel has for TCP.
func isTCP(fd int) bool {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return err == nil && protocol == unix.IPPROTO_TCP
}
