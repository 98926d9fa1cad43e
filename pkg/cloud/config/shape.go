package config

import "time"

// The types of this file are the shape of the cloud-config: a field for each key, in the form in which
// an administrator writes it. A missing key has the value from setDefaults. The checks of the values, which
// make a Config of them, are in files of their own.

// file is the whole text.
type file struct {
	APIVersion           string        `yaml:"apiVersion" needed:"yes"`
	Kind                 string        `yaml:"kind" needed:"yes"`
	ServicesWithoutClass bool          `yaml:"servicesWithoutClass"`
	LoadBalancerClasses  []string      `yaml:"loadBalancerClasses"`
	Pools                []poolShape   `yaml:"pools"`
	Reservations         []reservation `yaml:"reservations"`
	OnShrink             ShrinkPolicy  `yaml:"onShrink"`
	BGP                  bgpShape      `yaml:"bgp"`
	Failover             Failover      `yaml:"failover"`
	Announce             Announce      `yaml:"announce"`
	Conflicts            Conflicts     `yaml:"conflicts"`
	Rebalance            rebalance     `yaml:"rebalance"`
	NodeHealth           NodeHealth    `yaml:"nodeHealth"`
	Nodes                *Nodes        `yaml:"nodes"`
}

type rebalance struct {
	MaxMovesPerMinute int `yaml:"maxMovesPerMinute"`
}

type poolShape struct {
	Name               string          `yaml:"name" needed:"yes"`
	Addresses          []string        `yaml:"addresses" needed:"yes"`
	AutoAssign         bool            `yaml:"autoAssign"`
	AvoidBuggyIPs      bool            `yaml:"avoidBuggyIPs"`
	Disabled           bool            `yaml:"disabled"`
	Priority           int             `yaml:"priority"`
	Namespaces         []string        `yaml:"namespaces"`
	NamespaceSelectors []labelSelector `yaml:"namespaceSelectors"`
	ServiceSelectors   []labelSelector `yaml:"serviceSelectors"`
	SharedNamespaces   []string        `yaml:"sharedNamespaces"`
	MaxPerNamespace    int             `yaml:"maxPerNamespace"`
	ReuseAfter         time.Duration   `yaml:"reuseAfter"`
	L2                 []l2Shape       `yaml:"l2"`
	BGP                []advertisement `yaml:"bgp"`
}

type l2Shape struct {
	Interface     string          `yaml:"interface"`
	NodeSelectors []labelSelector `yaml:"nodeSelectors"`
}

type advertisement struct {
	Peers               []string        `yaml:"peers"`
	NodeSelectors       []labelSelector `yaml:"nodeSelectors"`
	AggregationLength   int             `yaml:"aggregationLength"`
	AggregationLengthV6 int             `yaml:"aggregationLengthV6"`
	Communities         []string        `yaml:"communities"`
	LocalPref           *int            `yaml:"localPref"`
	MED                 *int            `yaml:"med"`
	ASPathPrepend       int             `yaml:"asPathPrepend"`
}

type bgpShape struct {
	Communities map[string]string `yaml:"communities"`
	Peers       []peerShape       `yaml:"peers"`
}

type peerShape struct {
	Name             string             `yaml:"name" needed:"yes"`
	Address          orTemplate[string] `yaml:"address" needed:"yes"`
	Port             int                `yaml:"port"`
	LocalASN         int                `yaml:"localASN" needed:"yes"`
	PeerASN          orTemplate[int]    `yaml:"peerASN" needed:"yes"`
	HoldTime         time.Duration      `yaml:"holdTime"`
	KeepaliveTime    time.Duration      `yaml:"keepaliveTime"`
	ConnectRetryTime time.Duration      `yaml:"connectRetryTime"`
	SourceAddress    string             `yaml:"sourceAddress"`
	Interface        string             `yaml:"interface"`
	RouterID         string             `yaml:"routerID"`
	PasswordFile     string             `yaml:"passwordFile"`
	EBGPMultihop     int                `yaml:"ebgpMultihop"`
	TTLSecurity      int                `yaml:"ttlSecurity"`
	GracefulRestart  *restart           `yaml:"gracefulRestart"`
	Families         []string           `yaml:"families"`
	ExtendedNextHop  bool               `yaml:"extendedNextHop"`
	NodeSelectors    []labelSelector    `yaml:"nodeSelectors"`
	BFD              *bfdShape          `yaml:"bfd"`
}

type restart struct {
	RestartTime time.Duration `yaml:"restartTime"`
}

type bfdShape struct {
	TransmitInterval time.Duration `yaml:"transmitInterval"`
	ReceiveInterval  time.Duration `yaml:"receiveInterval"`
	DetectMultiplier int           `yaml:"detectMultiplier"`
	MinimumTTL       int           `yaml:"minimumTTL"`
}

type reservation struct {
	Service   string   `yaml:"service" needed:"yes"`
	Addresses []string `yaml:"addresses" needed:"yes"`
}

// labelSelector is metav1.LabelSelector, whose own decoder knows no positions.
type labelSelector struct {
	MatchLabels      map[string]string `yaml:"matchLabels"`
	MatchExpressions []expression      `yaml:"matchExpressions"`
}

type expression struct {
	Key      string   `yaml:"key" needed:"yes"`
	Operator string   `yaml:"operator" needed:"yes"`
	Values   []string `yaml:"values"`
}
