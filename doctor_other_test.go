//go:build !linux

package main

// ailments are none here: limits are not told, and disks not mounted.
func ailments() []ailment { return nil }
