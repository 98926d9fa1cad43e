// Package netstate knows the node's network interfaces: which there are, which of them can
// carry a load balancer address, and which addresses are the node's own.
//
// A Watcher listens to rtnetlink and hands out whole Snapshots when something changed;
// nothing is polled, no file under /sys is read, and no capability is needed. What a
// Snapshot means is pure.
package netstate
