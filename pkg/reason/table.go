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
	// ScopeNode is a node: why it may not announce an address, or does not although told.
	// It shows in the message of baremetal.cloud/Announced, in logs and in metrics.
	ScopeNode Scope = "node"
)

// Entry explains one Reason to an administrator.
type Entry struct {
	Reason Reason
	Scope  Scope
	// Meaning is one or two sentences on what is so.
	Meaning string
	// Cure is what to do about it, or "" where nothing is wrong.
	Cure string
}

// Table returns an entry for every Reason, in the order in which they are declared.
func Table() []Entry {
	return slices.Concat(allocated(), announced(), node(), sessions())
}

func allocated() []Entry {
	return []Entry{
		{Allocated, ScopeAllocated, "The Service holds every address it asked for.", ""},
		{AllocatedPartly, ScopeAllocated,
			"The Service prefers two families and holds an address of one of them. It gains the other as soon as there is one.",
			"If it should have both now, add addresses of the missing family to a pool that may serve it."},
		{PoolExhausted, ScopeAllocated,
			"Every pool that may serve the Service is full, or what is free in it is reserved, avoided, in quarantine or about to be given up by a node. The Service waits and is served when an address is freed or a pool grows.",
			"Delete a Service that is not needed, or add addresses to a pool."},
		{NoPool, ScopeAllocated,
			"No pool may serve the Service automatically: none has autoAssign, is open to its namespace and labels, and is enabled.",
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
			"No pool that may serve the Service has addresses of a family that it needs.",
			"Change ipFamilyPolicy or ipFamilies of the Service, or add addresses of that family to a pool."},
		{AddressInUse, ScopeAllocated,
			"The requested address is held by another Service. What the Service held before, it keeps.",
			"Ask for another address, or delete the other Service; the address is given as soon as it is free."},
		{AddressReserved, ScopeAllocated,
			"The requested address is reserved for another Service in the cloud-config.",
			"Ask for another address, or remove the reservation."},
		{AddressOutsidePools, ScopeAllocated,
			"An address is in no pool. A requested one is refused; one that the Service already holds is kept and not announced.",
			"Ask for an address in a pool, or add the address to a pool again. With onShrink: Reassign a held one is replaced."},
		{AddressAvoided, ScopeAllocated,
			"The pool has avoidBuggyIPs, and the requested address ends in .0 or .255.",
			"Ask for another address, or set avoidBuggyIPs to false."},
		{AddressQuarantined, ScopeAllocated,
			"Another machine on the network uses the address, or it is one of a node or of a BGP peer. At most half of what is free in a pool is kept back for that.",
			"Find the machine by the MAC address or the name in the message and give it another address, or take the address out of the pool."},
		{SharingRefused, ScopeAllocated,
			"The address is held by Services that this one may not share it with: another namespace, another sharing key, a port that both use, or traffic policies that do not go together.",
			"Give both Services the same baremetal.cloud/sharing-key, different ports, and externalTrafficPolicy Cluster (or Local with the same selector)."},
		{SharingClash, ScopeAllocated,
			"An edit made the Service clash with another on the same address. Both keep it. Where they use the same port only the older Service is served through it, on all of its ports; kubectl shows the younger one's address with (Proxy) until the clash ends.",
			"Undo the edit, or give one of them an address of its own."},
		{SharingKeyMissing, ScopeAllocated,
			"The Service shares its address with another one, as its status said when it was first seen, but the two name no common key: another controller, MetalLB for instance, gave it to both. Both keep it and are served.",
			"Give both Services the annotation baremetal.cloud/sharing-key with the same text; the message proposes one. Without it no other Service can join them, and neither gets the address back once it has lost it."},
		{RequestInvalid, ScopeAllocated,
			"What the Service asks for contradicts itself or cannot be read, for instance spec.loadBalancerIP and the addresses annotation disagree. What it held before, it keeps.",
			"Correct the annotations; the message says which and why."},
	}
}

func announced() []Entry {
	return []Entry{
		{Announced, ScopeAnnounced, "A node has acknowledged that it answers for every address of the Service.", ""},
		{WaitingForAnnouncer, ScopeAnnounced,
			"A node was told to answer for the address and has not acknowledged it yet. This lasts for a moment after each change.",
			"If it stays, look at the log of the Pod baremetal-announcer on the node that the message names."},
		{NoEligibleNode, ScopeAnnounced,
			"No node may announce the address. The message says why for the nodes.",
			"Correct the pool's nodeSelectors or interface, or the labels and condition of the nodes, as the nodes' reasons below explain."},
		{NoEndpoints, ScopeAnnounced,
			"The Service has no usable endpoint anywhere, so nobody answers for its address. Each family counts by itself: an IPv6 address needs Pods with IPv6 addresses.",
			"Start Pods that match the Service's selector and become ready. If only one family has endpoints, see that the cluster's Pod network has both, or make the Service SingleStack."},
		{NoLocalEndpoints, ScopeAnnounced,
			"The Service has externalTrafficPolicy Local, and no node that may announce its address has a usable endpoint.",
			"Run its Pods on nodes that the pool allows, or use externalTrafficPolicy Cluster."},
		{NoSession, ScopeAnnounced,
			"The address is announced by BGP, and no node that announces it has an established session to a router. The message says why for a peer.",
			"Look at that peer: the reasons of sessions below say what each means, and the log of the Pod baremetal-announcer says more."},
		{AddressConflict, ScopeAnnounced,
			"A node answers for the address, and another machine on the network uses it too: it was heard to announce it, or it answered a probe. The node announces the address again when it hears that, at most once in ten seconds, and never gives it up; but some clients may reach the other machine.",
			"Find the machine by the MAC address in the message and give it another address; or give the Service another one and take this one out of the pool."},
		{NothingAllocated, ScopeAnnounced,
			"There is no address to announce.",
			"See the condition baremetal.cloud/Allocated."},
	}
}

func node() []Entry {
	return []Entry{
		{NodeExcluded, ScopeNode,
			"The node carries the label node.kubernetes.io/exclude-from-external-load-balancers. Some installers put it on control plane nodes.",
			"Remove the label if the node should announce addresses."},
		{NodeNotSelected, ScopeNode,
			"The nodeSelectors of the pool do not match the node's labels.",
			"Correct the selector or the labels, if that is not meant."},
		{NodeNetworkUnavailable, ScopeNode,
			"The Node's condition NetworkUnavailable is true: its network plugin has not set up the Pod network.",
			"Look at the network plugin on that node."},
		{NodeDeleting, ScopeNode, "The Node is being deleted.", ""},
		{NodeNotConnected, ScopeNode,
			"The announcer of the node has no stream to the leading CCM. The addresses that the node has it keeps; it gets no new ones.",
			"See that the Pod baremetal-announcer runs there, and that it reaches port 10270 of the CCM's nodes; its log says what is refused."},
		{NodeNoInterface, ScopeNode,
			"The node has no interface that can carry the address: none on its segment, or none that the pool's interface setting selects, that is up and not part of a bridge or bond.",
			"Correct interface in l2 of the pool, or limit the pool to other nodes by nodeSelectors."},
		{NodeOffSegment, ScopeNode,
			"Other nodes are on the address's segment, by a route without a gateway. This node is not, so its answers would be heard on another segment.",
			"Nothing, if the segment is where the address should be. Else name the interface in l2 of the pool, or limit the pool by nodeSelectors."},
		{NodeNoRouteBack, ScopeNode,
			"The node's kernel can send nothing of the address's family by the interface that would answer: it has no route there, or no usable address. A request would be answered, and no reply could leave there.",
			"Give the interface an address of the family, or a route by which clients are reached; or choose another interface by interface in l2 of the pool."},
		{HeartbeatsNotSent, ScopeNode,
			"The node can send no heartbeat by the interface that would answer, so its peers take it for down. Its log has the kernel's error.",
			"See that no firewall on the node refuses outgoing UDP to port 10272, and that the interface can send."},
		{NodeNoEndpoint, ScopeNode,
			"The Service has externalTrafficPolicy Local, and the node has no usable endpoint of it.",
			""},
		{AddressIsLocal, ScopeNode,
			"The address is one of the node itself, of its gateway, or of a router that is a BGP peer; answering for it would break the network of what has it. Other nodes answer for an address that one node has.",
			"Take the address out of the pool."},
		{NodeWatchesEnough, ScopeNode,
			"The node may announce the address but does not stand by for it: it, or another candidate, would have to watch more than 64 nodes. So fewer nodes than usual can take the address over. It happens in clusters of more than 65 nodes where externalTrafficPolicy Local or node selectors bring nodes together that are no neighbours. The metric baremetal_ccm_addresses_short_of_backups counts the addresses.",
			"Use externalTrafficPolicy Cluster, or fewer and smaller overlapping node selectors, if a second or third node should stand by."},
		{NodeDown, ScopeNode,
			"The nodes that share addresses with the node do not hear it any more, and one of them answers in its place.",
			"See whether the node is dead, its cable pulled, or UDP port 10272 blocked between the nodes."},
		{NodeLeft, ScopeNode,
			"The announcer of the node was ended, and gave its addresses away before: a drain, an update, a shutdown.",
			""},
		{NodeYielded, ScopeNode,
			"The node may answer for the address and gave it up by itself: its announcer came back from a restart or overslept, or heard a node whose claim is better.",
			"If it happens again and again, the log of the Pod baremetal-announcer on that node says why."},
		{Rebalanced, ScopeNode,
			"The node may answer for the address; it moved to one that answered for fewer, as rebalance in the cloud-config allows.",
			"Set rebalance.maxMovesPerMinute to 0 if addresses should stay where they are."},
		{NodeUnwell, ScopeNode,
			"The node's kube-proxy does not answer on its health port, or says that it is behind, and has for unwellAfter. The node's addresses are with others; where no other may take one it stays, since rules that kube-proxy wrote before still work.",
			"Look at kube-proxy on that node. If the cluster's nodes have none, or its health port is elsewhere, set nodeHealth.kubeProxy."},
		{NodeCordoned, ScopeNode,
			"The node is cordoned, and nodeHealth.drainOnCordon is set. The node's addresses are with others; where no other may take one it stays.",
			"Uncordon the node when the work on it is done."},
		{TermImplausible, ScopeNode,
			"The node's announcer was told a plan of a term far above the leader's, or holds one. No history of leaders leads there: a stranger may have the key of baremetal-ccm, or the node lies. The message has both terms.",
			"If the key may have leaked, replace the authority: see docs/security.md, Leaked CCM key. Announcers then take the leader's plans again, without a restart."},
		{SocketFailed, ScopeNode,
			"The node could not open its raw socket or write to it. The message holds the system's error.",
			"See that the announcer runs with the capability NET_RAW; then look at the interface."},
	}
}

// sessions are the reasons of BGP.
func sessions() []Entry {
	return []Entry{
		{PeerUnreachable, ScopeNode,
			"No connection to the router comes about: nothing listens on the port, a firewall is between, or, where a password is used, the two sides have different ones. TCP drops what is signed with another password without a word, so that this looks like a router that is not there.",
			"See that the router runs BGP on that address and port, has the node as its neighbour, and has the same password."},
		{PeerSilent, ScopeNode,
			"The router took the connection or had a session, and did not say anything within the hold time.",
			"See whether the router is overloaded or the path to it broken."},
		{PeerRefuses, ScopeNode,
			"The router ended the session with a NOTIFICATION. The message has its code and subcode, for instance OPEN Message Error, Bad Peer AS.",
			"Compare the AS numbers, addresses and families on both sides; the router's log says what it did not like."},
		{PeerRefused, ScopeNode,
			"The node ended the session because of what the router said: it has another AS number than peerASN, or sent what is no BGP.",
			"Correct peerASN, or the router."},
		{PeerClosed, ScopeNode,
			"The connection was closed without a NOTIFICATION: the router restarts, does not know the node as a neighbour, or something between closed it.",
			"See that the router has the node's address as its neighbour."},
		{BFDDown, ScopeNode,
			"BFD was up with the router and is not any more: nothing was heard of it for the detection time, or it says that it does not hear the node. The session was ended at once, and is tried again. The message says which of the two.",
			"See whether the router is down or the path to it broken. If neither is, the intervals may be shorter than one side can keep: raise them or detectMultiplier."},
		{PeerFloods, ScopeNode,
			"The router sends more routes than the node is ready to hold in memory, none of which it uses. The session is ended, and tried again after some minutes.",
			"Have the router send no routes to the nodes, by a filter towards them."},
		{PasswordMissing, ScopeNode,
			"The peer has a passwordFile, and the announcer cannot read it. It does not connect without a password.",
			"Put the password into the Secret baremetal-bgp-passwords under that key."},
		{NoGateway, ScopeNode,
			"The peer is the node's default gateway, and the node's main routing table has no default route of that family, or by that interface, with a gateway that a session can be opened to.",
			"Give the node a default route, or the peer an address or nodeSelectors that leave the node out."},
		{PeerTwice, ScopeNode,
			"Two peers are the same router to the node, for instance by its address and as the node's default gateway. The node has one session to it: of the peer with an address, else of the first by name.",
			"Remove one of the two, or give them nodeSelectors that pick different nodes."},
		{SpeakerFailed, ScopeNode,
			"The node's BGP process ended unexpectedly and is started again. With graceful restart the routers keep the routes meanwhile.",
			"Please report it with the trace from the announcer's log."},
		{NodeNoPeer, ScopeNode,
			"The pool is announced by BGP, and none of the peers that it is announced to is the node's: no nodeSelectors match the node, it has not the labels that a peer is made from, or the peers do not take the address's family.",
			"Correct the nodeSelectors or families of the peers or the labels of the node, if that is not meant."},
		{NodeLabelInvalid, ScopeNode,
			"The address or the AS number of a BGP peer is made from the node's labels, and these make none. An Event of this name on the Node says what they make.",
			"Correct the labels of the node, or the template in the cloud-config."},
		{PeerFamilyMissing, ScopeNode,
			"The session is established and carries no prefixes of the address's family: the router has not that family, or with extendedNextHop not that capability, configured for it, or the node has no address of that family on the network that leads to the router, to be the next hop.",
			"Activate the family on the router, give the node an address of it, or announce the pool to other peers."},
	}
}
