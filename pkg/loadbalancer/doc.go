// Package loadbalancer is the cluster side's core: it knows the Services, the nodes and
// what the announcers say, and decides which node answers for which address.
//
// It is pure: no clock, socket, goroutine, lock, logger or Kubernetes type. Time comes in
// as an argument, and the owner of a Balancer serialises the calls. Everything that happens
// comes in as an input (Ensure, SetNode, SetEndpoints, Observe, …). The only ways out are
// Plan, which says for each node what to announce, and Status, which says how a Service
// fares.
package loadbalancer
