// Package ipam gives out load balancer addresses from pools.
//
// It is pure: no clock, socket, goroutine, lock, logger or Kubernetes type. Time comes in
// as an argument, and the owner of an Allocator serialises the calls.
package ipam
