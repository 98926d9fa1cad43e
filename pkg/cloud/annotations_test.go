package cloud

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"baremetal.cloud/ccm/pkg/reason"
)

// TestFault_K6_5_Typos: a key that is like one of ours names that one.
func TestFault_K6_5_Typos(t *testing.T) {
	for key, meant := range map[string]string{
		"baremetal.cloud/adresses":     AnnotationAddresses,
		"baremetal.cloud/address":      AnnotationAddresses,
		"baremetal.cloud/sharingkey":   AnnotationSharingKey,
		"baremetal.cloud/Pool":         AnnotationPool,
		"baremetal.cloud/address-pool": AnnotationPool,
		"bare-metal.cloud/pool":        AnnotationPool,
		"baremetal.clound/addresses":   AnnotationAddresses,
	} {
		notices := annotationNotices(map[string]string{key: "x", AnnotationPool: "a"})
		require.Len(t, notices, 1, key)
		require.Equal(t, reason.AnnotationUnknown, notices[0].reason)
		require.Contains(t, notices[0].text, key)
		if key != "baremetal.cloud/address-pool" { // as far from one as from another
			require.Contains(t, notices[0].text, "did you mean "+meant+"?", key)
		}
	}
	require.Empty(t, annotationNotices(map[string]string{
		AnnotationPool: "a", AnnotationAddresses: "10.0.0.1", AnnotationSharingKey: "k",
		"kubectl.kubernetes.io/last-applied-configuration": "{}", "example.com/pool": "p", strings.Repeat("k", 200_000): "",
	}), "what is nobody's business")
}

// TestFault_K6_5_ForeignAnnotations: those of other load balancers name ours, or the key of the
// cloud-config, and there is one for each product.
func TestFault_K6_5_ForeignAnnotations(t *testing.T) {
	products := map[string]bool{}
	for key, f := range foreignAnnotations {
		products[f.product] = true
		notices := annotationNotices(map[string]string{key: "x"})
		require.Equal(t, []annotationNotice{{reason.AnnotationForeign, fmt.Sprintf("%s is %s's, write %s", key, f.product, f.instead)}}, notices)
		require.True(t, strings.HasPrefix(f.instead, annotationPrefix), key)
		require.LessOrEqual(t, len(key), maxKey)
	}
	require.Equal(t, map[string]bool{"MetalLB": true, "OpenELB": true, "kube-vip": true, "PureLB": true, "Cilium": true}, products)

	all := map[string]string{}
	for key := range foreignAnnotations {
		all[key] = "x"
	}
	notices := annotationNotices(all)
	require.Len(t, notices, 1, "bounded")
	require.Contains(t, notices[0].text, fmt.Sprintf("and %d more like that", len(foreignAnnotations)-maxAnnotationNews))
}

// TestFault_K6_5_AnnotationsAreToldOnce: once for each change, and not again by the next leader.
func TestFault_K6_5_AnnotationsAreToldOnce(t *testing.T) {
	s, recorder := eventDedup{}, record.NewFakeRecorder(10)
	svc := loadBalancer("web", func(svc *corev1.Service) { svc.Annotations = map[string]string{"baremetal.cloud/adresses": "10.0.0.1"} })
	s.tellAnnotations(recorder, svc)
	require.Equal(t, []string{"Warning AnnotationUnknown baremetal.cloud/adresses is no annotation that is read, did you mean baremetal.cloud/addresses?"}, drain(recorder))
	s.tellAnnotations(recorder, svc)
	svc.Labels = map[string]string{"a": "b"}
	s.tellAnnotations(recorder, svc)
	require.Empty(t, drain(recorder))
	svc.Annotations["metallb.io/address-pool"] = "p"
	s.tellAnnotations(recorder, svc)
	require.Equal(t, []string{"Warning AnnotationForeign metallb.io/address-pool is MetalLB's, write baremetal.cloud/pool"}, drain(recorder))
	svc.Annotations = nil
	s.tellAnnotations(recorder, svc)
	require.Empty(t, drain(recorder))

	setCondition(svc, ConditionAllocated, verdict(true, reason.Allocated), metav1.NewTime(time.Now()))
	svc.Annotations = map[string]string{"metallb.io/address-pool": "p"}
	next := eventDedup{}
	next.tellAnnotations(recorder, svc)
	require.Empty(t, drain(recorder), "the leader before told so")
	svc.Annotations["baremetal.cloud/poll"] = "p"
	next.tellAnnotations(recorder, svc)
	require.Len(t, drain(recorder), 1, "of what is new")
}
