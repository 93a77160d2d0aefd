package gateway

import "runtime/debug"

// version is set by the linker (Makefile, VERSION).
var version string

// Version is the build's version: what the linker was told, else the module's,
// else the revision that was built, else dev.
func Version() string { return versionOf("") }

func versionOf(given string) string {
	if given != "" {
		return given
	}
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "dev+" + s.Value[:12]
		}
	}
	return "dev"
}
