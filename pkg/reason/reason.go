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
	// Allocated says that the Service holds every address it asked for.
	Allocated Reason = "Allocated"
	// AllocatedPartly says that a PreferDualStack Service holds one of two families.
	AllocatedPartly Reason = "AllocatedPartly"
	// PoolExhausted says that every pool that may serve the Service is full.
	PoolExhausted Reason = "PoolExhausted"
	// NoPool says that no pool may serve the Service automatically.
	NoPool Reason = "NoPool"
	// PoolUnknown says that the Service asks for a pool that is not in the cloud-config.
	PoolUnknown Reason = "PoolUnknown"
	// PoolNotAllowed says that a pool's namespaces or selectors exclude the Service.
	PoolNotAllowed Reason = "PoolNotAllowed"
	// PoolDisabled says that the pool is being drained.
	PoolDisabled Reason = "PoolDisabled"
	// QuotaExceeded says that the namespace holds as many addresses of the pool as it may.
	QuotaExceeded Reason = "QuotaExceeded"
	// FamilyUnavailable says that no pool that may serve the Service has addresses of the family.
	FamilyUnavailable Reason = "FamilyUnavailable"
	// AddressInUse says that the requested address is held by another Service.
	AddressInUse Reason = "AddressInUse"
	// AddressReserved says that the requested address is reserved for another Service.
	AddressReserved Reason = "AddressReserved"
	// AddressOutsidePools says that an address is in no pool.
	AddressOutsidePools Reason = "AddressOutsidePools"
	// AddressAvoided says that avoidBuggyIPs keeps the requested address from being used.
	AddressAvoided Reason = "AddressAvoided"
	// AddressQuarantined says that a node, a router or another machine on the network uses the address.
	AddressQuarantined Reason = "AddressQuarantined"
	// SharingRefused says that the address is held by Services that it may not be shared with.
	SharingRefused Reason = "SharingRefused"
	// SharingClash says that an edit made a Service clash with another on the same address.
	SharingClash Reason = "SharingClash"
	// SharingKeyMissing says that Services share an address without naming a key.
	SharingKeyMissing Reason = "SharingKeyMissing"
	// RequestInvalid says that what the Service asks for contradicts itself or cannot be read.
	RequestInvalid Reason = "RequestInvalid"
	// AnnotationUnknown says that the Service has an annotation with a key like one of ours.
	AnnotationUnknown Reason = "AnnotationUnknown"
	// AnnotationForeign says that the Service has an annotation of another load balancer.
	AnnotationForeign Reason = "AnnotationForeign"
)

// Reasons of the condition baremetal.cloud/Announced.
const (
	// Announced says that a node has acknowledged answering for every address.
	Announced Reason = "Announced"
	// WaitingForAnnouncer says that a node was told and has not acknowledged yet.
	WaitingForAnnouncer Reason = "WaitingForAnnouncer"
	// NoEligibleNode says that no node may announce the address.
	NoEligibleNode Reason = "NoEligibleNode"
	// NoEndpoints says that the Service has no usable endpoint.
	NoEndpoints Reason = "NoEndpoints"
	// NoLocalEndpoints says that no eligible node has a usable endpoint of a Local Service.
	NoLocalEndpoints Reason = "NoLocalEndpoints"
	// NoSession says that no node that announces the address by BGP has a session to a router.
	NoSession Reason = "NoSession"
	// AddressConflict says that another machine on the network uses the address too.
	AddressConflict Reason = "AddressConflict"
	// StatusContested says that another controller keeps rewriting the Service's status.
	StatusContested Reason = "StatusContested"
	// NothingAllocated says that there is no address to announce.
	NothingAllocated Reason = "NothingAllocated"
)

// Reasons for which one node may not announce an address, or does not although told.
const (
	// NodeExcluded says that the node carries the label node.kubernetes.io/exclude-from-external-load-balancers.
	NodeExcluded Reason = "NodeExcluded"
	// NodeNotSelected says that the pool's node selector does not match.
	NodeNotSelected Reason = "NodeNotSelected"
	// NodeNetworkUnavailable says that the Node's condition NetworkUnavailable is true.
	NodeNetworkUnavailable Reason = "NodeNetworkUnavailable"
	// NodeDeleting says that the Node is being deleted.
	NodeDeleting Reason = "NodeDeleting"
	// NodeNotConnected says that the node's announcer has no stream to the leader.
	NodeNotConnected Reason = "NodeNotConnected"
	// NodeNoInterface says that the node has no interface that can carry the address.
	NodeNoInterface Reason = "NodeNoInterface"
	// NodeOffSegment says that other nodes are on the address's segment, and this one is not.
	NodeOffSegment Reason = "NodeOffSegment"
	// NodeNoRouteBack says that the node's kernel can send nothing of the address's family by
	// the interface that would answer.
	NodeNoRouteBack Reason = "NodeNoRouteBack"
	// HeartbeatsNotSent says that the node can send no heartbeat by the interface that would
	// answer, so that its peers take it for down.
	HeartbeatsNotSent Reason = "HeartbeatsNotSent"
	// NodeNoEndpoint says that the node has no usable endpoint of a Local Service.
	NodeNoEndpoint Reason = "NodeNoEndpoint"
	// AddressIsLocal says that the address is one of the node itself, its gateway or a BGP peer.
	AddressIsLocal Reason = "AddressIsLocal"
	// NodeWatchesEnough says that the node cannot stand by for the address, because nodes
	// would have to watch more others than they may.
	NodeWatchesEnough Reason = "NodeWatchesEnough"
	// NodeDown says that the nodes that share addresses with the node find it down.
	NodeDown Reason = "NodeDown"
	// NodeLeft says that the node's announcer was ended, and said so.
	NodeLeft Reason = "NodeLeft"
	// NodeYielded says that the node may answer for the address and stopped all the same.
	NodeYielded Reason = "NodeYielded"
	// Rebalanced says that the address moved to a node that answered for fewer.
	Rebalanced Reason = "Rebalanced"
	// NodeUnwell says that the node's service proxy does not work, and has not for a while.
	NodeUnwell Reason = "NodeUnwell"
	// NodeCordoned says that the node is cordoned, and drainOnCordon is set.
	NodeCordoned Reason = "NodeCordoned"
	// TermImplausible says that a node was told a plan of a term that no history of leaders
	// can have reached.
	TermImplausible Reason = "TermImplausible"
	// SocketFailed says that the node could not open or write its raw socket.
	SocketFailed Reason = "SocketFailed"
)

// Reasons for which a node's BGP session to a router is not established, or says nothing of
// an address.
const (
	// PeerUnreachable says that no connection to the router comes about.
	PeerUnreachable Reason = "PeerUnreachable"
	// PeerSilent says that the router took the connection, or had a session, and went silent.
	PeerSilent Reason = "PeerSilent"
	// PeerRefuses says that the router ended the session with a NOTIFICATION.
	PeerRefuses Reason = "PeerRefuses"
	// PeerRefused says that the node ended the session: the router is not what it should be.
	PeerRefused Reason = "PeerRefused"
	// PeerClosed says that the connection was closed without a NOTIFICATION.
	PeerClosed Reason = "PeerClosed"
	// BFDDown says that BFD finds the path to the router broken.
	BFDDown Reason = "BFDDown"
	// TooManyRoutes says that the session is established, and the router sends many routes, which
	// the node does not use.
	TooManyRoutes Reason = "TooManyRoutes"
	// PasswordMissing says that the file with the session's password cannot be read.
	PasswordMissing Reason = "PasswordMissing"
	// NoGateway says that the peer is the node's default gateway, and there is none that can be.
	NoGateway Reason = "NoGateway"
	// PeerTwice says that another peer of the node is the same router.
	PeerTwice Reason = "PeerTwice"
	// SpeakerFailed says that the node's BGP process ended, and is started again.
	SpeakerFailed Reason = "SpeakerFailed"
	// NodeNoPeer says that no peer that the pool is announced to is one of the node's.
	NodeNoPeer Reason = "NodeNoPeer"
	// NodeLabelInvalid says that a peer is to be made from the node's labels, which make none.
	NodeLabelInvalid Reason = "NodeLabelInvalid"
	// PeerFamilyMissing says that a session is established and tells no prefixes of the family.
	PeerFamilyMissing Reason = "PeerFamilyMissing"
)
