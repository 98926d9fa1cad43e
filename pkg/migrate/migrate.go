package migrate

import (
	"fmt"
	"slices"
	"strings"
)

// Product is a load balancer with a configuration that can be read.
type Product string

// The products, by the names that the command uses.
const (
	MetalLB Product = "metallb"
	OpenELB Product = "openelb"
	KubeVIP Product = "kube-vip"
	PureLB  Product = "purelb"
	Cilium  Product = "cilium"
)

// Products returns all products in alphabetical order.
func Products() []Product { return []Product{Cilium, KubeVIP, MetalLB, OpenELB, PureLB} }

// Result is a configuration as this project writes it.
type Result struct {
	// CloudConfig is the text of the cloud-config.
	CloudConfig string `json:"cloudConfig"`
	// Losses are what the cloud-config does not say, in the order in which they were found; empty
	// if all was carried over.
	Losses []Finding `json:"losses"`
	// Notes are what was carried over and deserves a look.
	Notes []Finding `json:"notes"`
	// Annotations are what the Services of the source need.
	Annotations []Annotation `json:"annotations"`
	// Plan is the change-over, step by step.
	Plan []Step `json:"plan"`
}

// Finding is something about one value of the source.
type Finding struct {
	Place
	// Reason is why, with what to do if that is known.
	Reason string `json:"reason"`
}

// Place is where a value stands in the source.
type Place struct {
	// Document counts the YAML documents from 1, and Line the lines; 0 if they say nothing.
	Document int `json:"document,omitempty"`
	Line     int `json:"line,omitempty"`
	// Object is the kind and the name, like "IPAddressPool metallb-system/default".
	Object string `json:"object"`
	// Path leads to the value in the object, like "spec.addresses[0]".
	Path string `json:"path,omitempty"`
}

// String renders the place as "LINE: document N: OBJECT: PATH".
func (p Place) String() string {
	var parts []string
	if p.Line > 0 {
		parts = append(parts, fmt.Sprint(p.Line))
	}
	if p.Document > 0 {
		parts = append(parts, fmt.Sprintf("document %d", p.Document))
	}
	for _, part := range []string{p.Object, p.Path} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// String renders the finding as "LINE: document N: OBJECT: PATH: reason".
func (f Finding) String() string { return f.Place.String() + ": " + f.Reason }

// Annotation is one that a Service needs.
type Annotation struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Key       string `json:"key"`
	Value     string `json:"value"`
	// From is the annotation of the other product that says the same.
	From string `json:"from"`
}

// Step is one step of the change-over.
type Step struct {
	Title string `json:"title"`
	// Commands are for a shell; none where the step is something to look at.
	Commands []string `json:"commands,omitempty"`
}

// Source is a configuration to read.
type Source struct {
	// Data is YAML or JSON.
	Data []byte
	// Name stands for the source in errors.
	Name string
	// Generated is set if Data was not written by a person, so that its lines say nothing.
	Generated bool
}

// Convert reads the configuration of a product. Its error is an *Error with every problem that
// was found; it is nil if losses are all there is.
func Convert(product Product, source Source) (*Result, error) {
	c := newConverter(product, source)
	objects := readObjects(c.report, source)
	if len(c.problems) == 0 {
		c.convert(objects)
	}
	if len(c.problems) == 0 {
		c.finish()
	}
	if len(c.problems) > 0 {
		slices.SortStableFunc(c.problems, func(a, b Problem) int { return a.Line - b.Line })
		return nil, &Error{Name: source.Name, Problems: c.problems}
	}
	return &c.result, nil
}

// convert makes pools and peers of the objects.
func (c *converter) convert(objects []*object) {
	switch c.product {
	case MetalLB:
		convertMetalLB(c, objects)
	case OpenELB:
		convertOpenELB(c, objects)
	case KubeVIP:
		convertKubeVIP(c, objects)
	case PureLB:
		convertPureLB(c, objects)
	case Cilium:
		convertCilium(c, objects)
	default:
		c.fail(Place{}, "write one of "+productNames(), "%q is not a product that can be read", c.product)
	}
}

func productNames() string {
	var names []string
	for _, p := range Products() {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}
