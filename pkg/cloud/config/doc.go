// Package config reads the cloud-config: the one YAML file that holds the pools of
// addresses and the rules for them.
//
// Reading is strict and whole. Every problem of a file is found in one go and carries its
// line, its column and the path of the value; a file with a problem yields no Config at
// all, so that a caller which keeps the last good one never runs on half of a new one.
// docs/reference.yaml holds every key with its default and meaning.
package config
