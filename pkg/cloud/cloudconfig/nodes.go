package cloudconfig

import (
	"regexp"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/util/validation"
)

// nodeName is the placeholder of Nodes.ProviderID.
const nodeName = "{name}"

// Nodes says how nodes are initialised whose kubelets run with --cloud-provider=external.
type Nodes struct {
	// ProviderID is a template like "baremetal://{name}": a scheme, "://", and text with
	// at least one {name} and no other braces.
	ProviderID string
	// ZoneLabel and RegionLabel are the keys of the node labels that hold the node's zone
	// and region; "" where there is none.
	ZoneLabel, RegionLabel string
}

// ProviderIDOf returns the provider ID of the node with that name. Different names have
// different IDs.
func (n Nodes) ProviderIDOf(node string) string {
	return strings.ReplaceAll(n.ProviderID, nodeName, node)
}

func (w *walker) nodes(n *yaml.Node, path string) *Nodes {
	nodes := defaultNodes()
	w.object(n, path, map[string]reader{
		"providerID":  func(v *yaml.Node, at string) { nodes.ProviderID = w.providerID(v, at) },
		"zoneLabel":   func(v *yaml.Node, at string) { nodes.ZoneLabel = w.labelKey(v, at) },
		"regionLabel": func(v *yaml.Node, at string) { nodes.RegionLabel = w.labelKey(v, at) },
	})
	return nodes
}

var (
	// scheme is that of a URI (RFC 3986, section 3.1) in lower case: Kubernetes takes what
	// comes before "://" for the cloud provider's name.
	scheme = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://.`)
	// braces are a placeholder, or a brace that is not part of one.
	braces = regexp.MustCompile(`\{[^{}]*\}|[{}]`)
)

// providerID reads a template as Nodes.ProviderID describes it. A node keeps the ID that
// it got for ever, so what looks like a slip is refused.
func (w *walker) providerID(n *yaml.Node, path string) string {
	s, ok := w.text(n, path)
	if !ok {
		return ""
	}
	if !scheme.MatchString(s) {
		w.fail(n, path, "write it like "+defaultNodes().ProviderID, "%q does not begin with a scheme in lower case and ://", s)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		w.fail(n, path, "remove it", "%q contains white space or a control character", s)
	}
	named := false
	for _, b := range braces.FindAllString(s, -1) {
		if b == nodeName {
			named = true
			continue
		}
		w.fail(n, path, "the only one is "+nodeName, "%q is not a placeholder", b)
	}
	if !named {
		w.fail(n, path, "write it like "+defaultNodes().ProviderID, "%q has no %s: all nodes would have the same ID", s, nodeName)
	}
	return s
}

// labelKey reads the key of a label; "" is none.
func (w *walker) labelKey(n *yaml.Node, path string) string {
	s, ok := w.text(n, path)
	if !ok || s == "" {
		return ""
	}
	w.qualified(n, path, s)
	return s
}

// qualified checks that s can be the key of a label.
func (w *walker) qualified(n *yaml.Node, path, s string) {
	for _, why := range validation.IsQualifiedName(s) {
		w.fail(n, path, "", "%q is not the key of a label: %s", s, why)
	}
}
