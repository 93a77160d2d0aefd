//go:build !linux && !darwin

package sandbox

import (
	"context"
	"errors"
	"os/exec"
	"runtime"
)

var errSystem = errors.New("there are no walls on " + runtime.GOOS)

func enclosed(context.Context, *exec.Cmd, *Spec) error { return errSystem }

// Probe reports that there are no walls.
func Probe() Layers { return Layers{{Name: "system", Detail: errSystem.Error()}} }
