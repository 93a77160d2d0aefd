//go:build !linux

package proc

import "errors"

// Look tells nothing here: there is no /proc that could be relied on.
func Look(int) (Facts, error) { return Facts{}, errors.ErrUnsupported }
