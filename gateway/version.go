package gateway

import "runtime/debug"

// version is set by the linker (Makefile, VERSION).
var version string

// Version is the build's version: what the linker was told, else the module's
// (which names the revision in a clone), else dev.
func Version() string { return versionOf("") }

func versionOf(given string) string {
	if given != "" {
		return given
	}
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
