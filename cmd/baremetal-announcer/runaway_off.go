//go:build !runaway

package main

// runaway does something only in a build with the tag runaway.
func (threads) runaway() {}
