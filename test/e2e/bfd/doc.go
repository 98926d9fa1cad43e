// Package bfd holds end-to-end tests of pkg/announcer/bfd against the routers' own
// implementations, FRR's bfdd and BIRD, in network namespaces.
package bfd
