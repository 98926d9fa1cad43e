// Package guard holds tests on the repository itself: which package may import which,
// that manifests, Dockerfile and documentation agree with the code, and that names follow
// their rules. It has no code of its own.
package guard
