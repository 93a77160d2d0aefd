//go:build !linux

package channel

import "syscall"

// childAttr gives a child a group of its own; it dies with us by the end of its stdin.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func keepDescriptors() { keepFirstDescriptors() }
