package main

import (
	"cmp"
	"runtime"
	"runtime/debug"
)

// version is set by the linker (see the Makefile); it is empty in other builds.
var version string

// versionText returns the version that was linked in, else the module's, and the Go version.
func versionText() string {
	module := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		module = info.Main.Version
	}
	return cmp.Or(version, module) + " " + runtime.Version()
}
