package svc

import (
	"context"
	"runtime"
	"runtime/debug"
)

func printVersion(e *Env) error {
	if !e.JSON {
		return e.printf("openclaw %s (%s, %s/%s)\n", e.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	}
	out := map[string]any{"version": e.Version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				out["revision"] = s.Value
			}
		}
		modules := map[string]string{}
		for _, m := range info.Deps {
			modules[m.Path] = m.Version
		}
		out["modules"] = modules
	}
	return e.printJSON(out)
}

func version(_ context.Context, e *Env, _ *Args) error { return printVersion(e) }
