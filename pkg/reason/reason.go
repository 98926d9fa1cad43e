// Package reason is the one vocabulary in which the system says why.
//
// A Reason is a decision's cause as a typed name. The same name is the reason of
// the Kubernetes Event, the reason of the Service condition, the value of the
// metric label and what tests assert, so that what an administrator reads in
// `kubectl describe` can be searched for in the docs, the metrics and the code.
// Table holds every Reason with its meaning and its cure; docs/reasons.md is
// generated from it.
package reason

// Reason names why something is so. It is a CamelCase word, as the Kubernetes API
// conventions ask of condition and Event reasons.
type Reason string

// Reasons of the condition baremetal.cloud/Allocated.
const (
	// Allocated means that the Service holds every address it asked for.
	Allocated Reason = "Allocated"
	// PartiallyAllocated means that a PreferDualStack Service holds one of two families.
	PartiallyAllocated Reason = "PartiallyAllocated"
	// PoolExhausted means that every pool that may serve the Service is full.
	PoolExhausted Reason = "PoolExhausted"
	// NoPool means that no pool may serve the Service automatically.
	NoPool Reason = "NoPool"
	// PoolUnknown means that the Service asks for a pool that is not in the cloud-config.
	PoolUnknown Reason = "PoolUnknown"
	// PoolNotAllowed means that a pool's namespaces or selectors exclude the Service.
	PoolNotAllowed Reason = "PoolNotAllowed"
	// PoolDisabled means that the pool is being drained.
	PoolDisabled Reason = "PoolDisabled"
	// QuotaExceeded means that the namespace holds as many addresses of the pool as it may.
	QuotaExceeded Reason = "QuotaExceeded"
	// FamilyUnavailable means that no pool that may serve the Service has addresses of the family.
	FamilyUnavailable Reason = "FamilyUnavailable"
	// AddressInUse means that the requested address is held by another Service.
	AddressInUse Reason = "AddressInUse"
	// AddressReserved means that the requested address is reserved for another Service.
	AddressReserved Reason = "AddressReserved"
	// AddressOutsidePools means that an address is in no pool.
	AddressOutsidePools Reason = "AddressOutsidePools"
	// AddressAvoided means that avoidBuggyIPs keeps the requested address from being used.
	AddressAvoided Reason = "AddressAvoided"
	// AddressQuarantined means that a node, a router or another machine on the network uses the address.
	AddressQuarantined Reason = "AddressQuarantined"
	// SharingRefused means that the address is held by Services that it may not be shared with.
	SharingRefused Reason = "SharingRefused"
	// SharingClash means that an edit made a Service clash with another on the same address.
	SharingClash Reason = "SharingClash"
	// SharingKeyMissing means that Services share an address without naming a key.
	SharingKeyMissing Reason = "SharingKeyMissing"
	// RequestInvalid means that what the Service asks for contradicts itself or cannot be read.
	RequestInvalid Reason = "RequestInvalid"
	// AnnotationUnknown means that the Service has an annotation with a key like one of ours.
	AnnotationUnknown Reason = "AnnotationUnknown"
	// AnnotationForeign means that the Service has an annotation of another load balancer.
	AnnotationForeign Reason = "AnnotationForeign"
)

// Reasons of the condition baremetal.cloud/Announced.
const (
	// Announced means that a node has acknowledged answering for every address.
	Announced Reason = "Announced"
	// WaitingForAnnouncer means that a node was told and has not acknowledged yet.
	WaitingForAnnouncer Reason = "WaitingForAnnouncer"
	// NoEligibleNode means that no node may announce the address.
	NoEligibleNode Reason = "NoEligibleNode"
	// NoEndpoints means that the Service has no usable endpoint.
	NoEndpoints Reason = "NoEndpoints"
	// NoLocalEndpoints means that no eligible node has a usable endpoint of a Local Service.
	NoLocalEndpoints Reason = "NoLocalEndpoints"
	// NoBGPSession means that no node that announces the address by BGP has a session to a router.
	NoBGPSession Reason = "NoBGPSession"
	// AddressConflict means that another machine on the network uses the address too.
	AddressConflict Reason = "AddressConflict"
	// StatusContested means that another controller keeps rewriting the Service's status.
	StatusContested Reason = "StatusContested"
	// NothingAllocated means that there is no address to announce.
	NothingAllocated Reason = "NothingAllocated"
)

// Reasons for which one node may not announce an address, or does not although told.
const (
	// NodeExcluded means that the node carries the label node.kubernetes.io/exclude-from-external-load-balancers.
	NodeExcluded Reason = "NodeExcluded"
	// NodeNotSelected means that the pool's node selector does not match.
	NodeNotSelected Reason = "NodeNotSelected"
	// NodeNetworkUnavailable means that the Node's condition NetworkUnavailable is true.
	NodeNetworkUnavailable Reason = "NodeNetworkUnavailable"
	// NodeDeleting means that the Node is being deleted.
	NodeDeleting Reason = "NodeDeleting"
	// NodeNotConnected means that the node's announcer has no stream to the leader.
	NodeNotConnected Reason = "NodeNotConnected"
	// NodeNoInterface means that the node has no interface that can carry the address.
	NodeNoInterface Reason = "NodeNoInterface"
	// NodeOffSegment means that other nodes are on the address's segment, and this one is not.
	NodeOffSegment Reason = "NodeOffSegment"
	// NodeNoRouteBack means that the node's kernel can send nothing of the address's family by
	// the interface that would answer.
	NodeNoRouteBack Reason = "NodeNoRouteBack"
	// HeartbeatsNotSent means that the node can send no heartbeat by the interface that would
	// answer, so that its peers take it for down.
	HeartbeatsNotSent Reason = "HeartbeatsNotSent"
	// NodeNoEndpoint means that the node has no usable endpoint of a Local Service.
	NodeNoEndpoint Reason = "NodeNoEndpoint"
	// AddressIsLocal means that the address is one of the node itself, its gateway or a BGP peer.
	AddressIsLocal Reason = "AddressIsLocal"
	// PeerLimitReached means that the node cannot be a backup for the address, because nodes
	// would have to watch more others than they may.
	PeerLimitReached Reason = "PeerLimitReached"
	// NodeDown means that the nodes that share addresses with the node find it down.
	NodeDown Reason = "NodeDown"
	// AnnouncerStopped means that the node's announcer was ended, and said so.
	AnnouncerStopped Reason = "AnnouncerStopped"
	// ClaimReleased means that the node may answer for the address and stopped all the same.
	ClaimReleased Reason = "ClaimReleased"
	// Rebalanced means that the address moved to a node that answered for fewer.
	Rebalanced Reason = "Rebalanced"
	// KubeProxyUnhealthy means that the node's service proxy does not work, and has not for a while.
	KubeProxyUnhealthy Reason = "KubeProxyUnhealthy"
	// NodeCordoned means that the node is cordoned, and drainOnCordon is set.
	NodeCordoned Reason = "NodeCordoned"
	// TermImplausible means that a node was told a plan of a term that no history of leaders
	// can have reached.
	TermImplausible Reason = "TermImplausible"
	// SocketFailed means that the node could not open or write its raw socket.
	SocketFailed Reason = "SocketFailed"
)

// Reasons for which a node's BGP session to a router is not established, or says nothing of
// an address.
const (
	// PeerUnreachable means that no connection to the router comes about.
	PeerUnreachable Reason = "PeerUnreachable"
	// HoldTimerExpired means that the router took the connection, or had a session, and went silent.
	HoldTimerExpired Reason = "HoldTimerExpired"
	// NotificationReceived means that the router ended the session with a NOTIFICATION.
	NotificationReceived Reason = "NotificationReceived"
	// NotificationSent means that the node ended the session: the router is not what it should be.
	NotificationSent Reason = "NotificationSent"
	// PeerClosed means that the connection was closed without a NOTIFICATION.
	PeerClosed Reason = "PeerClosed"
	// BFDDown means that BFD finds the path to the router broken.
	BFDDown Reason = "BFDDown"
	// TooManyRoutes means that the session is established, and the router sends many routes, which
	// the node does not use.
	TooManyRoutes Reason = "TooManyRoutes"
	// PasswordMissing means that the file with the session's password cannot be read.
	PasswordMissing Reason = "PasswordMissing"
	// NoGateway means that the peer is the node's default gateway, and there is none that can be.
	NoGateway Reason = "NoGateway"
	// DuplicatePeer means that another peer of the node is the same router.
	DuplicatePeer Reason = "DuplicatePeer"
	// BGPProcessFailed means that the node's BGP process ended, and is started again.
	BGPProcessFailed Reason = "BGPProcessFailed"
	// NodeNoPeer means that no peer that the pool is announced to is one of the node's.
	NodeNoPeer Reason = "NodeNoPeer"
	// NodeLabelInvalid means that a peer should come from the node's labels, which make none.
	NodeLabelInvalid Reason = "NodeLabelInvalid"
	// PeerFamilyMissing means that a session is established and tells no prefixes of the family.
	PeerFamilyMissing Reason = "PeerFamilyMissing"
)
