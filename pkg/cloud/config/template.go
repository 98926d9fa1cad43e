package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// placeholder is what stands for the value of a node's label in a template.
var placeholder = regexp.MustCompile(`^\{label:([^{}]+)\}$`)

// template is a text with placeholders for the values of a node's labels; "" is none.
type template string

// orTemplate is a value, or a template for one.
type orTemplate[T int | string] struct {
	value T
	// template is "" where the value is written out.
	template template
}

// decodeNode implements nodeDecoder.
func (v *orTemplate[T]) decodeNode(d *decoder, n *yaml.Node, path string) bool {
	if template, is := readTemplate(d, n, path); is {
		v.template = template
		return template != ""
	}
	return d.decodeValue(n, path, reflect.ValueOf(&v.value).Elem())
}

// readTemplate reads a text with placeholders, if n is meant as one. Without quotes YAML takes a
// template for a mapping.
func readTemplate(d *decoder, n *yaml.Node, path string) (t template, is bool) {
	switch {
	case n.Kind == yaml.MappingNode:
		d.report.fail(n, path, `write a template like "{label:KEY}" in quotes`, "want a single value, got a mapping")
		return "", true
	case n.Kind != yaml.ScalarNode || !strings.ContainsAny(n.Value, "{}"):
		return "", false
	}
	return template(n.Value), true
}

// checkTemplate checks the placeholders.
func (t template) checkTemplate(s spot) {
	for _, b := range braces.FindAllString(string(t), -1) {
		key := placeholder.FindStringSubmatch(b)
		if key == nil {
			s.fail("write {label:KEY} for the value of that label of the node", "%q is not a placeholder", b)
			continue
		}
		checkQualified(s, key[1])
	}
}

// filled is a template with the labels of a node.
type filled struct {
	text string
	// missing are the keys of labels that the node has not; there is how many it has.
	missing []string
	there   int
}

// fillLabels puts in the values of labels, each as change makes it.
func (t template) fillLabels(labels map[string]string, change func(value string) string) filled {
	var out filled
	out.text = braces.ReplaceAllStringFunc(string(t), func(b string) string {
		key := placeholder.FindStringSubmatch(b)[1]
		value, ok := labels[key]
		if !ok {
			out.missing = append(out.missing, key)
			return b
		}
		out.there++
		return change(value)
	})
	return out
}

// PeerTemplate is what of a peer is made from the labels of a node.
type PeerTemplate struct {
	// address and peerASN are "" where the file says them itself.
	address, peerASN template
	// families reports whether the file does, and not the address.
	families bool
}

// IsZero reports whether nothing is left to labels.
func (t PeerTemplate) IsZero() bool { return t == PeerTemplate{} }

// Peer returns p as a node with these labels has it. It is false, without an error, where the
// node has none of the labels, and so no such peer. The error says what is wrong with them.
func (t PeerTemplate) Peer(p plan.BGPPeer, labels map[string]string) (plan.BGPPeer, bool, error) {
	// The value of a label cannot have the ':' of an address, and an address has no '-'.
	address := t.address.fillLabels(labels, func(value string) string { return strings.ReplaceAll(value, "-", ":") })
	asn := t.peerASN.fillLabels(labels, func(value string) string { return value })
	missing := append(address.missing, asn.missing...)
	switch {
	case address.there+asn.there == 0:
		return p, false, nil
	case len(missing) > 0:
		return p, false, fmt.Errorf("the node has the labels that the peer is made from but for %s", strings.Join(missing, " and "))
	}
	var err error
	if t.address != "" {
		p, err = t.setAddress(p, address.text)
	}
	if t.peerASN != "" && err == nil {
		p, err = t.setASN(p, asn.text)
	}
	return p, err == nil, err
}

func (t PeerTemplate) setAddress(p plan.BGPPeer, text string) (plan.BGPPeer, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return p, fmt.Errorf("the labels make the address %s %q, which is none", t.address, text)
	}
	if why, _ := whyUnusable(a); why != "" {
		return p, fmt.Errorf("the labels make the address %s %s, which %s", t.address, a, why)
	}
	if p.ExtendedNextHop && a.Is4() {
		return p, fmt.Errorf("the labels make the address %s %s, and extendedNextHop is for sessions over IPv6", t.address, a)
	}
	if s := p.SourceAddress; s.IsValid() && (s.Is4() != a.Is4() || s == a) {
		return p, fmt.Errorf("the labels make the address %s %s, to which sourceAddress %s cannot connect", t.address, a, s)
	}
	p.Address = a
	if !t.families {
		p.IPv4, p.IPv6 = a.Is4(), a.Is6()
	}
	return p, nil
}

func (t PeerTemplate) setASN(p plan.BGPPeer, text string) (plan.BGPPeer, error) {
	i, err := strconv.ParseUint(text, 10, 32)
	if err != nil || !isAssignable(i) {
		return p, fmt.Errorf("the labels make the peerASN %s %q, which is no AS's number", t.peerASN, text)
	}
	p.PeerASN = uint32(i)
	return p, nil
}
