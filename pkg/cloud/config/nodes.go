package config

import (
	"regexp"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/util/validation"
)

// nodeName is the placeholder of Nodes.ProviderID.
const nodeName = "{name}"

// Nodes says how to initialise nodes with kubelets that run with --cloud-provider=external.
type Nodes struct {
	// ProviderID is a template like "baremetal://{name}": a scheme, "://", and text with
	// at least one {name} and no other braces.
	ProviderID string `yaml:"providerID"`
	// ZoneLabel and RegionLabel are the keys of the node labels that hold the node's zone
	// and region; "" where there is none.
	ZoneLabel   string `yaml:"zoneLabel"`
	RegionLabel string `yaml:"regionLabel"`
}

// ProviderIDOf returns the provider ID of the node with that name. Different names have
// different IDs.
func (n Nodes) ProviderIDOf(node string) string {
	return strings.ReplaceAll(n.ProviderID, nodeName, node)
}

func (n *Nodes) setDefaults() { n.ProviderID = "baremetal://" + nodeName }

func (n *Nodes) checkNodes(s spot) *Nodes {
	if n == nil {
		return nil
	}
	if id := s.key("providerID"); id.given() {
		providerID(id, n.ProviderID)
	}
	labelKey(s.key("zoneLabel"), n.ZoneLabel)
	labelKey(s.key("regionLabel"), n.RegionLabel)
	return n
}

var (
	// scheme is that of a URI (RFC 3986, section 3.1) in lower case: Kubernetes takes what
	// comes before "://" for the cloud provider's name.
	scheme = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://.`)
	// braces are a placeholder, or a brace that is not part of one.
	braces = regexp.MustCompile(`\{[^{}]*\}|[{}]`)
)

// providerID checks a template as Nodes.ProviderID describes it. A node keeps the ID that
// it got for ever, so what looks like a slip is refused.
func providerID(s spot, text string) {
	var example Nodes
	example.setDefaults()
	if !scheme.MatchString(text) {
		s.fail("write it like "+example.ProviderID, "%q does not begin with a scheme in lower case and ://", text)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		s.fail("remove it", "%q contains white space or a control character", text)
	}
	named := false
	for _, b := range braces.FindAllString(text, -1) {
		if b == nodeName {
			named = true
			continue
		}
		s.fail("the only one is "+nodeName, "%q is not a placeholder", b)
	}
	if !named {
		s.fail("write it like "+example.ProviderID, "%q has no %s: all nodes would have the same ID", text, nodeName)
	}
}

// labelKey checks the key of a label; "" is none.
func labelKey(s spot, key string) {
	if s.given() && key != "" {
		checkQualified(s, key)
	}
}

// checkQualified checks that key can be the key of a label.
func checkQualified(s spot, key string) {
	for _, why := range validation.IsQualifiedName(key) {
		s.fail("", "%q is not the key of a label: %s", key, why)
	}
}
