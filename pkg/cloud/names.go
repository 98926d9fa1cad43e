package cloud

import corev1 "k8s.io/api/core/v1"

// ProviderName is the value of --cloud-provider.
const ProviderName = "baremetal"

// Annotations of a Service, read in service.go and nowhere else.
const (
	// AnnotationPool names the only pool that the Service's addresses may come from.
	AnnotationPool = "baremetal.cloud/pool"
	// AnnotationAddresses lists the addresses that the Service asks for, separated by
	// commas, at most one of each family. No other address is given instead.
	AnnotationAddresses = "baremetal.cloud/addresses"
	// AnnotationSharingKey lets Services that name the same key hold the same address, as
	// long as their ports differ.
	AnnotationSharingKey = "baremetal.cloud/sharing-key"
)

// Conditions of a Service (status.conditions).
const (
	// ConditionAllocated says whether the Service holds the addresses that it asks for.
	ConditionAllocated = "baremetal.cloud/Allocated"
	// ConditionAnnounced says whether nodes answer for its addresses.
	ConditionAnnounced = "baremetal.cloud/Announced"
	// ConditionShared is there, and true, while others hold one of its addresses too. It is
	// how the next leader knows that they may, even if an edit has made them clash since.
	ConditionShared = "baremetal.cloud/Shared"
)

// Finalizer keeps a Service with our loadBalancerClass until its addresses are free.
const Finalizer = "baremetal.cloud/load-balancer-cleanup"

// Names of our own objects, in our own namespace.
const (
	// LeaseName is the Lease of the election.
	LeaseName = "baremetal-ccm"
	// ConfigMapName holds the cloud-config; ConfigMapKey is its key.
	ConfigMapName = "baremetal-cloud-config"
	ConfigMapKey  = "cloud-config.yaml"
	// LastGoodConfigMapName holds the last cloud-config that was accepted.
	LastGoodConfigMapName = "baremetal-cloud-config-last-good"
	// EventSource is the component of our Events.
	EventSource = "baremetal-ccm"
)

// zoneLabel is the well-known label of a node's failure domain.
const zoneLabel = corev1.LabelTopologyZone
