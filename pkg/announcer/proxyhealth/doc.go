// Package proxyhealth asks the node's own service proxy by HTTP whether traffic is served here:
// whether it works at all, and whether it has written its rules for the Pods of a Service
// with externalTrafficPolicy Local. State is the pure part; Checker has the clock and the
// sockets.
package proxyhealth
