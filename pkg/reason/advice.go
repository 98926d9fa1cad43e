package reason

import "strings"

// advice is what to do about a Reason in a few words, for the end of a condition's or an
// Event's message. Table has more.
var advice = map[Reason]string{
	NoPool:              "name a pool in baremetal.cloud/pool, or open one to the Service",
	PoolUnknown:         "correct baremetal.cloud/pool, or add the pool to the cloud-config",
	PoolNotAllowed:      "name another pool, or open this one to the Service",
	PoolDisabled:        "name another pool, or set disabled to false",
	QuotaExceeded:       "delete a Service of the namespace, or raise maxPerNamespace",
	FamilyUnavailable:   "add addresses of the family to a pool, or change ipFamilyPolicy",
	AddressInUse:        "ask for another address, or share it by baremetal.cloud/sharing-key",
	AddressReserved:     "ask for another address, or remove the reservation",
	AddressOutsidePools: "ask for an address of a pool, or add this one to a pool",
	AddressAvoided:      "ask for another address, or set avoidBuggyIPs to false",
	AddressQuarantined:  "free the address there, or take it out of the pool",
	SharingRefused:      "give both the same baremetal.cloud/sharing-key and different ports",
	SharingClash:        "undo the edit, or give one of them an address of its own",
	RequestInvalid:      "correct the annotation or the field",
	NoEligibleNode:      "correct l2, bgp or nodeSelectors of the pool, or the nodes",
	NoEndpoints:         "start Pods that match the selector and become ready",
	NoLocalEndpoints:    "run its Pods on nodes of the pool, or use externalTrafficPolicy Cluster",
	NoBGPSession:        "see the router, and the log of baremetal-announcer on that node",
	AddressConflict:     "give that machine another address",
}

// Advised returns a message with what to do about why at its end, unless it has that already.
func Advised(why Reason, message string) string {
	cure := advice[why]
	if cure == "" || strings.HasSuffix(message, cure) {
		return message
	}
	return Message(message, cure)
}
