package cloud

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"

	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/reason"
)

const (
	// annotationPrefix begins the keys of our annotations.
	annotationPrefix = "baremetal.cloud/"
	// maxTypo is how many letters a key may differ in from one of ours to be taken for it.
	maxTypo = 3
	// maxKey bounds the keys that are looked at, and maxAnnotationNews how many are named at a time.
	maxKey            = 64
	maxAnnotationNews = 3
)

// ourAnnotations are the keys that are read.
var ourAnnotations = []string{AnnotationPool, AnnotationAddresses, AnnotationSharingKey}

// foreignAnnotation is a key of another load balancer, and what has its meaning here.
type foreignAnnotation struct{ product, instead string }

// foreignAnnotations are the keys that ask something of other load balancers. Those by which
// they tell of what they did are not among them.
var foreignAnnotations = map[string]foreignAnnotation{
	"metallb.io/address-pool":             {"MetalLB", AnnotationPool},
	"metallb.universe.tf/address-pool":    {"MetalLB", AnnotationPool},
	"metallb.io/loadBalancerIPs":          {"MetalLB", AnnotationAddresses},
	"metallb.universe.tf/loadBalancerIPs": {"MetalLB", AnnotationAddresses},
	"metallb.io/allow-shared-ip":          {"MetalLB", AnnotationSharingKey},
	"metallb.universe.tf/allow-shared-ip": {"MetalLB", AnnotationSharingKey},

	"eip.openelb.kubesphere.io/v1alpha1":      {"OpenELB", AnnotationAddresses},
	"eip.openelb.kubesphere.io/v1alpha2":      {"OpenELB", AnnotationPool},
	"protocol.openelb.kubesphere.io/v1alpha1": {"OpenELB", AnnotationPool + " with a pool that has l2 or bgp"},

	"kube-vip.io/loadbalancerIPs":  {"kube-vip", AnnotationAddresses},
	"kube-vip.io/serviceInterface": {"kube-vip", AnnotationPool + " with a pool whose l2 has that interface"},

	"purelb.io/service-group":   {"PureLB", AnnotationPool},
	"purelb.io/addresses":       {"PureLB", AnnotationAddresses},
	"purelb.io/allow-shared-ip": {"PureLB", AnnotationSharingKey},

	"io.cilium/lb-ipam-ips":                    {"Cilium", AnnotationAddresses},
	"lbipam.cilium.io/ips":                     {"Cilium", AnnotationAddresses},
	"io.cilium/lb-ipam-sharing-key":            {"Cilium", AnnotationSharingKey},
	"lbipam.cilium.io/sharing-key":             {"Cilium", AnnotationSharingKey},
	"lbipam.cilium.io/sharing-cross-namespace": {"Cilium", AnnotationSharingKey + " with a pool that has sharedNamespaces"},
}

// annotationNotice is what an Event tells of annotations that are not read.
type annotationNotice struct {
	reason reason.Reason
	text   string
}

// annotationNotices says which annotations look as if they should be read and are not: those
// with a key like ours, and those of other load balancers. One notice for each kind, with the
// first keys by name.
func annotationNotices(annotations map[string]string) []annotationNotice {
	var unknown, foreign []string
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if len(key) > maxKey || slices.Contains(ourAnnotations, key) {
			continue
		}
		if f, ok := foreignAnnotations[key]; ok {
			foreign = append(foreign, fmt.Sprintf("%s is %s's, write %s", key, f.product, f.instead))
		} else if meant, ok := meantAnnotation(key); ok {
			unknown = append(unknown, fmt.Sprintf("%s is no annotation that is read, did you mean %s?", reason.Quote(key), meant))
		}
	}
	var out []annotationNotice
	for _, kind := range []struct {
		reason reason.Reason
		texts  []string
	}{{reason.AnnotationUnknown, unknown}, {reason.AnnotationForeign, foreign}} {
		if len(kind.texts) == 0 {
			continue
		}
		text := strings.Join(kind.texts[:min(len(kind.texts), maxAnnotationNews)], "; ")
		if more := len(kind.texts) - maxAnnotationNews; more > 0 {
			text += fmt.Sprintf("; and %d more like that", more)
		}
		out = append(out, annotationNotice{kind.reason, text})
	}
	return out
}

// meantAnnotation returns which of our annotations a key is most like. Any key with our prefix
// is like one of them, since no other is read.
func meantAnnotation(key string) (string, bool) {
	nearest := slices.MinFunc(ourAnnotations, func(x, y string) int {
		return cmp.Compare(config.Edits(key, x), config.Edits(key, y))
	})
	return nearest, strings.HasPrefix(key, annotationPrefix) || config.Edits(key, nearest) <= maxTypo
}

// tellAnnotations writes an Event for what changed of the annotations that are not read. For a
// Service that a leader before this one served, that leader wrote the Event.
func (s *eventDedup) tellAnnotations(recorder record.EventRecorder, svc *corev1.Service) {
	notices := annotationNotices(svc.Annotations)
	var news []annotationNotice
	s.mu.Lock()
	said := s.eventsOf(svc)
	if !slices.Equal(said.annotations, notices) {
		if !said.inherited {
			news = slices.DeleteFunc(slices.Clone(notices), func(n annotationNotice) bool { return slices.Contains(said.annotations, n) })
		}
		said.annotations = notices
	}
	said.inherited = false
	s.mu.Unlock()
	for _, n := range news {
		recorder.Event(svc, corev1.EventTypeWarning, string(n.reason), n.text)
	}
}
