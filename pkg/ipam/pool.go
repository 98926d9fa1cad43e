package ipam

import (
	"net/netip"
	"time"
)

// Selector decides on labels. It is satisfied by the Kubernetes label selectors,
// which this package does not import.
type Selector interface {
	// Matches reports whether labels satisfy the selector; it must be a pure function.
	Matches(labels map[string]string) bool
	String() string
}

// Pool is a named set of addresses with the rules for taking one.
// A Pool is immutable once handed to an Allocator.
type Pool struct {
	// Name is unique among the pools and a DNS label.
	Name string
	// Ranges hold the addresses. They do not overlap, within a pool or across pools.
	Ranges []Range
	// AutoAssign lets Services that name neither pool nor address draw from the pool.
	AutoAssign bool
	// AvoidBuggyIPs skips IPv4 addresses that end in .0 or .255.
	AvoidBuggyIPs bool
	// Disabled drains the pool: nothing new is taken, what is held stays.
	Disabled bool
	// Priority orders the pools of equal fit; lower is drawn from first.
	Priority int
	// Namespaces, NamespaceSelector and ServiceSelector say which Services may use the
	// pool. Namespaces and NamespaceSelector are alternatives: a Service may use it if its
	// namespace is listed, or if the labels of its namespace match. ServiceSelector is
	// asked in addition. Empty and nil allow every Service.
	Namespaces        []string
	NamespaceSelector Selector
	ServiceSelector   Selector
	// SharedNamespaces may share addresses of this pool with each other.
	SharedNamespaces []string
	// MaxPerNamespace bounds the addresses one namespace may hold; 0 is no bound.
	MaxPerNamespace int
	// ReuseAfter is how long a freed address rests while another one is free.
	ReuseAfter time.Duration
}

// Reservation keeps addresses for one Service by name, before it exists.
type Reservation struct {
	Namespace, Name string
	Addresses       []netip.Addr
}
