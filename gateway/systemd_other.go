//go:build !linux

package gateway

// monotonicUsec is of no use to supervisors of other systems.
func monotonicUsec() uint64 { return 0 }

// isTCP believes it of every stream socket: there is no common way to ask.
func isTCP(fd int) bool { return true }
