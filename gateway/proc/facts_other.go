//go:build !linux

package proc

import "errors"

// Look tells nothing here: there is no /proc that could be relied on.
func Look(int) (Facts, error) { return Facts{}, errors.ErrUnsupported }

// KernelWalls are Linux's: there are none of them here.
func KernelWalls() (Walls, error) { return Walls{}, errors.ErrUnsupported }
