package reason

import "slices"

// Scope says where a Reason shows.
type Scope string

// The scopes.
const (
	// ScopeAllocated is the Service condition baremetal.cloud/Allocated and its Events.
	ScopeAllocated Scope = "baremetal.cloud/Allocated"
	// ScopeAnnounced is the Service condition baremetal.cloud/Announced and its Events.
	ScopeAnnounced Scope = "baremetal.cloud/Announced"
	// ScopeNode is a node: why it may not announce an address, or does not announce one of its plan.
	// It shows in the message of baremetal.cloud/Announced, in logs and in metrics.
	ScopeNode Scope = "node"
)

// Entry explains one Reason to an administrator.
type Entry struct {
	Reason Reason
	Scope  Scope
	// Meaning is a few short sentences about the state.
	Meaning string
	// Cure is what to do about it, or "" where nothing is wrong.
	Cure string
}

// Table returns an entry for every Reason, in the order in which they are declared.
func Table() []Entry {
	return slices.Concat(allocatedEntries(), announcedEntries(), nodeEntries(), sessionEntries())
}

func allocatedEntries() []Entry {
	return []Entry{
		{Allocated, ScopeAllocated, "The Service holds every address it asked for.", ""},
		{PartiallyAllocated, ScopeAllocated,
			"The Service prefers two families and holds an address of one of them. It gets the other as soon as there is one.",
			"If it should have both now, add addresses of the missing family to a pool that may serve it."},
		{PoolExhausted, ScopeAllocated,
			"No pool that may serve the Service has an address to give. What is free there is reserved, avoided, in quarantine, or still announced by a node. The Service waits. It is served when an address is freed or a pool grows.",
			"Delete a Service that is not needed, or add addresses to a pool."},
		{NoPool, ScopeAllocated,
			"No pool may serve the Service automatically: none is enabled, has autoAssign, and is open to its namespace and labels.",
			"Name a pool or an address in the Service's annotations, or open a pool to it."},
		{PoolUnknown, ScopeAllocated,
			"The Service asks for a pool that is not in the cloud-config.",
			"Correct the annotation baremetal.cloud/pool, or add the pool."},
		{PoolNotAllowed, ScopeAllocated,
			"The pool's namespaces or selectors exclude the Service. This holds for a requested address too.",
			"Use another pool, or add the namespace or labels to the pool."},
		{PoolDisabled, ScopeAllocated,
			"The pool is being drained and gives out nothing new. Addresses in use stay.",
			"Use another pool, or set disabled to false."},
		{QuotaExceeded, ScopeAllocated,
			"The namespace holds as many addresses of the pool as maxPerNamespace allows.",
			"Delete a Service of the namespace, share an address, or raise maxPerNamespace."},
		{FamilyUnavailable, ScopeAllocated,
			"The Service needs a family of addresses, and no pool that may serve it has any.",
			"Change ipFamilyPolicy or ipFamilies of the Service, or add addresses of that family to a pool."},
		{AddressInUse, ScopeAllocated,
			"The requested address is held by another Service. What the Service held before, it keeps.",
			"Ask for another address, or delete the other Service. The address is given as soon as it is free."},
		{AddressReserved, ScopeAllocated,
			"The requested address is reserved for another Service in the cloud-config.",
			"Ask for another address, or remove the reservation."},
		{AddressOutsidePools, ScopeAllocated,
			"An address is in no pool. If it was requested, it is refused. If the Service already holds it, the Service keeps it, and no node announces it.",
			"Ask for an address in a pool, or add the address to a pool again. With onShrink: Reassign a held one is replaced."},
		{AddressAvoided, ScopeAllocated,
			"The pool has avoidBuggyIPs, and the requested address ends in .0 or .255.",
			"Ask for another address, or set avoidBuggyIPs to false."},
		{AddressQuarantined, ScopeAllocated,
			"Another machine on the network uses the address, or it belongs to a node or to a BGP peer. At most half of the free addresses of a pool are kept back for that.",
			"The message has the MAC address or the name of the machine. Give that machine another address, or take the address out of the pool."},
		{SharingRefused, ScopeAllocated,
			"Other Services hold the address, and this one may not share it with them. Their namespace or sharing key differs, a port is used twice, or the traffic policies do not go together.",
			"Give both Services the same baremetal.cloud/sharing-key, different ports, and externalTrafficPolicy Cluster (or Local with the same selector)."},
		{SharingClash, ScopeAllocated,
			"An edit made the Service clash with another one on the same address. Both keep it. If they use the same port, only the older Service is served through it, on all of its ports. Until the clash ends, kubectl shows the younger one's address with (Proxy).",
			"Undo the edit, or give one of them an address of its own."},
		{SharingKeyMissing, ScopeAllocated,
			"The Service shares its address with another one, but the two name no common key. Another controller, MetalLB for instance, gave the address to both. Both keep it and are served.",
			"Give both Services the annotation baremetal.cloud/sharing-key with the same text. The message proposes one. Without it no other Service can join them, and a Service that loses the address does not get it back."},
		{RequestInvalid, ScopeAllocated,
			"The request of the Service contradicts itself or cannot be read. For instance, spec.loadBalancerIP and the addresses annotation disagree. What the Service held before, it keeps.",
			"Correct the annotations. The message names them, with the cause."},
		{AnnotationUnknown, ScopeAllocated,
			"Only as an Event. The Service has an annotation whose key is like one of ours, but is not read. The message has the key that is probably meant.",
			"Correct the key. What the Service holds changes only if the corrected annotation asks for something else."},
		{AnnotationForeign, ScopeAllocated,
			"Only as an Event. The Service has an annotation of another load balancer: MetalLB, OpenELB, kube-vip, PureLB or Cilium. It is not read here.",
			"Write the annotation that the message names. Or remove the foreign one, if it is left over."},
	}
}

func announcedEntries() []Entry {
	return []Entry{
		{Announced, ScopeAnnounced, "For every address of the Service a node has acknowledged that it announces it.", ""},
		{WaitingForAnnouncer, ScopeAnnounced,
			"The plan gives the address to a node, and the node has not acknowledged it yet. This lasts for a moment after each change.",
			"If it stays, look at the log of the Pod baremetal-announcer on the node that the message names."},
		{NoEligibleNode, ScopeAnnounced,
			"No node may announce the address. The message says why, with the number and the names of the nodes.",
			"Correct the pool's nodeSelectors or interface, or the labels and condition of the nodes. The nodes' reasons below say more."},
		{NoEndpoints, ScopeAnnounced,
			"The Service has no usable endpoint anywhere, so no node announces its address. The Event comes when this has lasted for 5 seconds, and for a new Service not before it is 30 seconds old: its Pods may be starting. Each family counts by itself: an IPv6 address needs Pods with IPv6 addresses.",
			"Start Pods that match the Service's selector and become ready. If only one family has endpoints, check that the Pod network has both, or make the Service SingleStack."},
		{NoLocalEndpoints, ScopeAnnounced,
			"The Service has externalTrafficPolicy Local, and no node that may announce its address has a usable endpoint.",
			"Run its Pods on nodes that the pool allows, or use externalTrafficPolicy Cluster."},
		{NoBGPSession, ScopeAnnounced,
			"The address is announced by BGP, and none of its nodes has an established session to a router that takes it. The message counts the sessions that were lost, that lack the address's family, and that were never established, with one of each.",
			"Look at the peer that is named first. Its reason is explained below, and the log of the Pod baremetal-announcer has more."},
		{AddressConflict, ScopeAnnounced,
			"A node owns the address, and another machine on the network uses it too. That machine announced it or answered a probe. The node then announces the address again, at most once in ten seconds, and never gives it up. Some clients may still reach the other machine.",
			"The message has the MAC address of the machine. Give that machine another address. Or give the Service another one, and take this one out of the pool."},
		{StatusContested, ScopeAnnounced,
			"Another controller has rewritten the Service's status three times within a minute. The message has its field manager. The address is announced all the same. The status is written back after one second, then at growing intervals of up to a minute, and never given up. The contest is over when a write has stood for two minutes.",
			"Have the other controller leave this Service alone: stop it, or give the Services of each a loadBalancerClass."},
		{NothingAllocated, ScopeAnnounced,
			"There is no address to announce.",
			"See the condition baremetal.cloud/Allocated."},
	}
}

func nodeEntries() []Entry {
	return []Entry{
		{NodeExcluded, ScopeNode,
			"The node carries the label node.kubernetes.io/exclude-from-external-load-balancers. Some installers put it on control plane nodes.",
			"Remove the label if the node should announce addresses."},
		{NodeNotSelected, ScopeNode,
			"The nodeSelectors of the pool do not match the node's labels.",
			"Correct the selectors or the labels, if that is not meant."},
		{NodeNetworkUnavailable, ScopeNode,
			"The Node's condition NetworkUnavailable is true: its network plugin has not set up the Pod network.",
			"Look at the network plugin on that node."},
		{NodeDeleting, ScopeNode, "The Node is being deleted.", ""},
		{NodeNotConnected, ScopeNode,
			"The announcer of the node has no stream to the leading CCM. The node keeps its addresses and gets no new ones.",
			"Check that the Pod baremetal-announcer runs there, and that it reaches port 10270 of the CCM's nodes. Its log has the error."},
		{NodeNoInterface, ScopeNode,
			"The node has no interface that can carry the address. An interface must be up, and no part of a bridge or bond. It must be on the address's segment, or match the pool's interface setting.",
			"Correct interface in l2 of the pool, or limit the pool to other nodes by nodeSelectors."},
		{NodeOffSegment, ScopeNode,
			"Other nodes are on the address's segment, by a route without a gateway. This node is not, so its answers would be heard on another segment.",
			"Nothing, if the address belongs on that segment. Otherwise name the interface in l2 of the pool, or limit the pool by nodeSelectors."},
		{NodeNoRouteBack, ScopeNode,
			"The node's kernel cannot send packets of the address's family by the interface. It has no route there, or no usable address. The node would answer a request, and no reply could leave.",
			"Give the interface an address of the family, or a route to the clients. Or choose another interface in l2 of the pool."},
		{HeartbeatsNotSent, ScopeNode,
			"The node can send no heartbeat by the interface, so its peers take it for down. Its log has the kernel's error.",
			"Check that no firewall on the node refuses outgoing UDP to port 10272, and that the interface can send."},
		{NodeNoEndpoint, ScopeNode,
			"The Service has externalTrafficPolicy Local, and the node has no usable endpoint of it.",
			""},
		{AddressIsLocal, ScopeNode,
			"The address belongs to the node itself, to its gateway, or to a BGP peer. Announcing it would break the network of its owner. If only one node has the address, other nodes announce it.",
			"Take the address out of the pool."},
		{PeerLimitReached, ScopeNode,
			"The node may announce the address but is no backup for it. It, or another candidate, would have to watch more than 64 nodes. So fewer nodes than usual can take the address over. This happens in clusters of more than 65 nodes, where externalTrafficPolicy Local or nodeSelectors combine distant nodes. The metric baremetal_ccm_addresses_short_of_backups counts the addresses.",
			"If a second or third node should be a backup, use externalTrafficPolicy Cluster, or nodeSelectors that overlap less."},
		{NodeDown, ScopeNode,
			"The nodes that share addresses with the node no longer hear it, and one of them has taken over.",
			"Check whether the node is dead, its cable pulled, or UDP port 10272 blocked between the nodes."},
		{AnnouncerStopped, ScopeNode,
			"The announcer of the node was stopped by a drain, an update or a shutdown. It gave its addresses away first.",
			""},
		{ClaimReleased, ScopeNode,
			"The node may announce the address and gave it up by itself. Its announcer was restarted or stalled, or heard a node with a better claim.",
			"If it repeats, see the log of the Pod baremetal-announcer on that node."},
		{Rebalanced, ScopeNode,
			"The node may announce the address. It moved to a node with fewer addresses, as rebalance in the cloud-config allows.",
			"Set rebalance.maxMovesPerMinute to 0 if addresses should stay where they are."},
		{KubeProxyUnhealthy, ScopeNode,
			"For unwellAfter, the node's kube-proxy did not answer on its health port, or reported that it is behind. Other nodes have its addresses. If no other node may take an address, it stays, because the rules that kube-proxy wrote still work.",
			"Look at kube-proxy on that node. If the cluster's nodes have none, or its health port is elsewhere, set nodeHealth.kubeProxy."},
		{NodeCordoned, ScopeNode,
			"The node is cordoned, and nodeHealth.drainOnCordon is set. Other nodes have its addresses. If no other node may take an address, it stays.",
			"Uncordon the node when the work on it is done."},
		{TermImplausible, ScopeNode,
			"The node's announcer holds or received a plan of a term far above the leader's. No history of leaders explains that: the key of baremetal-ccm may have leaked, or the node lies. The message has both terms.",
			"If the key may have leaked, replace the authority: see docs/security.md, Leaked CCM key. Announcers then take the leader's plans again, without a restart."},
		{SocketFailed, ScopeNode,
			"The node could not open its raw socket or write to it. The message holds the system's error.",
			"Check that the announcer runs with the capability NET_RAW. Then look at the interface."},
	}
}

// sessionEntries are the reasons of BGP.
func sessionEntries() []Entry {
	return []Entry{
		{PeerUnreachable, ScopeNode,
			"No connection to the router comes about. The port is closed, a firewall is between, or the two sides have different passwords. With a wrong password TCP drops packets silently, so the router seems to be absent.",
			"Check that the router runs BGP on that address and port, has the node as its neighbour, and has the same password."},
		{HoldTimerExpired, ScopeNode,
			"The router accepted the connection or had a session, and sent nothing within the hold time.",
			"Check whether the router is overloaded or the path to it broken."},
		{NotificationReceived, ScopeNode,
			"The router ended the session with a NOTIFICATION. The message has its code and subcode, for instance OPEN Message Error, Bad Peer AS.",
			"Compare the AS numbers, addresses and families on both sides. The router's log has its side of the story."},
		{NotificationSent, ScopeNode,
			"The node ended the session because of what the router sent. Its AS number is not peerASN, it asks for a hold time of 0, or a message was not valid BGP.",
			"Correct peerASN, or the router. A peer with bfd needs no hold time."},
		{PeerClosed, ScopeNode,
			"The connection was closed without a NOTIFICATION. The router restarts, does not know the node as a neighbour, or a device between the two closed it.",
			"Check that the router has the node's address as its neighbour."},
		{BFDDown, ScopeNode,
			"BFD was up with the router and is down. The node heard nothing for the detection time, or the router reports that it does not hear the node. The message has the one that applies. The session was ended at once, and is tried again.",
			"Check whether the router is down or the path to it broken. If neither is, the intervals may be too short for one side: raise them, or detectMultiplier."},
		{TooManyRoutes, ScopeNode,
			"The session is established, and the router has sent more than 10 000 routes in it. The node uses none and keeps none, so nothing fails. An Event of this name on the Node reports it once.",
			"Add a filter on the router, so that it sends no routes to the nodes."},
		{PasswordMissing, ScopeNode,
			"The peer has a passwordFile, and the announcer cannot read it. It does not connect without a password.",
			"Put the password into the Secret baremetal-bgp-passwords under that key."},
		{NoGateway, ScopeNode,
			"The peer is the node's default gateway, and the node's main routing table has no usable default route. The family or the interface is missing there, or the route has no gateway for a session.",
			"Give the node a default route, or give the peer an address. Or leave the node out by the peer's nodeSelectors."},
		{DuplicatePeer, ScopeNode,
			"Two peers are the same router to the node, for instance by its address and as the node's default gateway. The node has one session to it. The peer with an address comes first, then the first by name.",
			"Remove one of the two, or give them nodeSelectors that pick different nodes."},
		{BGPProcessFailed, ScopeNode,
			"The node's BGP process ended unexpectedly and is started again. With graceful restart the routers keep the routes meanwhile.",
			"Please report it with the trace from the announcer's log."},
		{NodeNoPeer, ScopeNode,
			"The pool is announced by BGP, and none of its peers is a peer of the node. The peers' nodeSelectors do not match, the node lacks labels for a peer's template, or the peers do not take the address's family.",
			"Correct the nodeSelectors or families of the peers, or the labels of the node, if that is not meant."},
		{NodeLabelInvalid, ScopeNode,
			"The address or the AS number of a BGP peer is made from the node's labels, and their values do not give a valid one. An Event of this name on the Node has the result.",
			"Correct the labels of the node, or the template in the cloud-config."},
		{PeerFamilyMissing, ScopeNode,
			"The session is established and carries no prefixes of the address's family. The router has not that family configured, or lacks the capability for extendedNextHop. Or the node has no address of that family on the router's network, for the next hop.",
			"Activate the family on the router, give the node an address of it, or announce the pool to other peers."},
	}
}
