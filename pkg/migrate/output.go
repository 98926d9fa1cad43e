package migrate

import (
	"bytes"
	"time"

	"gopkg.in/yaml.v3"

	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/ipam"
)

// The types of this file are the parts of the cloud-config that a migration writes, in the order
// of their keys.

type outFile struct {
	APIVersion          string    `yaml:"apiVersion"`
	Kind                string    `yaml:"kind"`
	LoadBalancerClasses []string  `yaml:"loadBalancerClasses,flow,omitempty"`
	BGP                 *outBGP   `yaml:"bgp,omitempty"`
	Pools               []outPool `yaml:"pools"`
}

type outBGP struct {
	Communities map[string]string `yaml:"communities,omitempty"`
	Peers       []outPeer         `yaml:"peers"`
}

type outPeer struct {
	Name             string        `yaml:"name"`
	Address          string        `yaml:"address"`
	Port             int64         `yaml:"port,omitempty"`
	LocalASN         int64         `yaml:"localASN"`
	PeerASN          int64         `yaml:"peerASN"`
	HoldTime         time.Duration `yaml:"holdTime,omitempty"`
	KeepaliveTime    time.Duration `yaml:"keepaliveTime,omitempty"`
	ConnectRetryTime time.Duration `yaml:"connectRetryTime,omitempty"`
	SourceAddress    string        `yaml:"sourceAddress,omitempty"`
	Interface        string        `yaml:"interface,omitempty"`
	RouterID         string        `yaml:"routerID,omitempty"`
	PasswordFile     string        `yaml:"passwordFile,omitempty"`
	EBGPMultihop     int64         `yaml:"ebgpMultihop,omitempty"`
	GracefulRestart  *outRestart   `yaml:"gracefulRestart,flow,omitempty"`
	Families         []string      `yaml:"families,flow,omitempty"`
	NodeSelectors    []outSelector `yaml:"nodeSelectors,omitempty"`
	BFD              *outBFD       `yaml:"bfd,omitempty"`
}

type outRestart struct {
	RestartTime time.Duration `yaml:"restartTime"`
}

type outBFD struct {
	TransmitInterval time.Duration `yaml:"transmitInterval,omitempty"`
	ReceiveInterval  time.Duration `yaml:"receiveInterval,omitempty"`
	DetectMultiplier int64         `yaml:"detectMultiplier,omitempty"`
	MinimumTTL       int64         `yaml:"minimumTTL,omitempty"`
}

type outPool struct {
	Name               string             `yaml:"name"`
	Addresses          []string           `yaml:"addresses"`
	AutoAssign         *bool              `yaml:"autoAssign,omitempty"`
	AvoidBuggyIPs      bool               `yaml:"avoidBuggyIPs,omitempty"`
	Disabled           bool               `yaml:"disabled,omitempty"`
	Priority           int64              `yaml:"priority,omitempty"`
	Namespaces         []string           `yaml:"namespaces,flow,omitempty"`
	NamespaceSelectors []outSelector      `yaml:"namespaceSelectors,omitempty"`
	ServiceSelectors   []outSelector      `yaml:"serviceSelectors,omitempty"`
	L2                 []outL2            `yaml:"l2,omitempty"`
	BGP                []outAdvertisement `yaml:"bgp,omitempty"`
}

type outL2 struct {
	Interface     string        `yaml:"interface,omitempty"`
	NodeSelectors []outSelector `yaml:"nodeSelectors,omitempty"`
}

type outAdvertisement struct {
	Peers               []string      `yaml:"peers,flow,omitempty"`
	NodeSelectors       []outSelector `yaml:"nodeSelectors,omitempty"`
	AggregationLength   int64         `yaml:"aggregationLength,omitempty"`
	AggregationLengthV6 int64         `yaml:"aggregationLengthV6,omitempty"`
	Communities         []string      `yaml:"communities,flow,omitempty"`
	LocalPref           *int64        `yaml:"localPref,omitempty"`
	ASPathPrepend       int64         `yaml:"asPathPrepend,omitempty"`
}

// outSelector is a Kubernetes label selector.
type outSelector struct {
	MatchLabels      map[string]string `yaml:"matchLabels,omitempty"`
	MatchExpressions []outExpression   `yaml:"matchExpressions,omitempty"`
}

type outExpression struct {
	Key      string   `yaml:"key"`
	Operator string   `yaml:"operator"`
	Values   []string `yaml:"values,flow,omitempty"`
}

// pool is a pool in the making, with where it comes from.
type pool struct {
	outPool
	place  Place
	ranges []placedRange
	// labels are those of the source's object.
	labels map[string]string
	// ways and adverts are how the source announces the pool, before they are fitted into L2 and BGP.
	ways    []placedL2
	adverts []placedAdvertisement
}

// placedL2 is a way of announcement on layer 2 with its place.
type placedL2 struct {
	outL2
	place Place
}

// placedAdvertisement is a way of announcement by BGP with its place. Its peers have the source's
// names, and its selectors are ORed.
type placedAdvertisement struct {
	outAdvertisement
	place Place
}

// placedRange is a run of addresses with its place.
type placedRange struct {
	ipam.Range
	text  string
	place Place
}

// has reports whether the pool has addresses of the family.
func (p *pool) has(f ipam.Family) bool {
	for _, r := range p.ranges {
		if ipam.FamilyOf(r.First) == f {
			return true
		}
	}
	return false
}

// peer is a router in the making, with where it comes from.
type peer struct {
	outPeer
	place Place
}

// render writes the cloud-config.
func (c *converter) render() string {
	file := outFile{APIVersion: config.APIVersion, Kind: config.Kind, LoadBalancerClasses: c.classes, Pools: []outPool{}}
	if len(c.peers) > 0 {
		file.BGP = &outBGP{Communities: c.usedCommunities()}
		for _, p := range c.peers {
			file.BGP.Peers = append(file.BGP.Peers, p.outPeer)
		}
	}
	for _, p := range c.pools {
		p.Addresses = nil
		for _, r := range p.ranges {
			p.Addresses = append(p.Addresses, r.text)
		}
		file.Pools = append(file.Pools, p.outPool)
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(file); err != nil {
		c.fail(Place{}, "", "cannot be written: %s", err)
	}
	return out.String()
}
