package kubelet

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func testNodes() []*corev1.Node {
	var nodes []*corev1.Node
	for _, name := range []string{"node1", "node2", "node3"} {
		nodes = append(nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{corev1.LabelHostname: name},
		}})
	}
	return nodes
}

func testPod(owner types.UID, change func(*corev1.Pod)) *corev1.Pod {
	isController := true
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Labels: map[string]string{"owner": string(owner)},
		OwnerReferences: []metav1.OwnerReference{{UID: owner, Controller: &isController}},
	}}
	if change != nil {
		change(p)
	}
	return p
}

func on(node string, p *corev1.Pod) *corev1.Pod {
	p.Spec.NodeName = node
	return p
}

func TestChoose(t *testing.T) {
	apart := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				TopologyKey:   corev1.LabelHostname,
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"owner": "ccm"}},
			}},
		}}
	}
	daemon := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"node3"}}},
			}}},
		}}
	}
	port := func(p *corev1.Pod) {
		p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{HostPort: 80, Protocol: corev1.ProtocolTCP}}}}
	}
	ended := on("node1", testPod("a", port))
	ended.Status.Phase = corev1.PodFailed
	for name, c := range map[string]struct {
		pod    *corev1.Pod
		placed []*corev1.Pod
		taint  corev1.TaintEffect
		want   string
	}{
		"the first node":                {pod: testPod("a", nil), want: "node1"},
		"beside a stranger":             {pod: testPod("a", nil), placed: []*corev1.Pod{on("node1", testPod("b", nil))}, want: "node1"},
		"away from a sibling":           {pod: testPod("a", nil), placed: []*corev1.Pod{on("node1", testPod("a", nil))}, want: "node2"},
		"anti-affinity":                 {pod: testPod("ccm", apart), placed: []*corev1.Pod{on("node1", testPod("ccm", apart))}, want: "node2"},
		"anti-affinity of who is there": {pod: testPod("ccm", nil), placed: []*corev1.Pod{on("node1", testPod("other", apart))}, want: "node2"},
		"a DaemonSet's node":            {pod: testPod("a", daemon), want: "node3"},
		"a taken host port":             {pod: testPod("a", port), placed: []*corev1.Pod{on("node1", testPod("b", port))}, want: "node2"},
		"the host port of an ended Pod": {pod: testPod("a", port), placed: []*corev1.Pod{ended}, want: "node1"},
		"a taint":                       {pod: testPod("a", nil), taint: corev1.TaintEffectNoSchedule, want: "node2"},
		"a taint that only prefers":     {pod: testPod("a", nil), taint: corev1.TaintEffectPreferNoSchedule, want: "node1"},
		"a tolerated taint": {pod: testPod("a", func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
		}), taint: corev1.TaintEffectNoSchedule, want: "node1"},
		"a selector": {pod: testPod("a", func(p *corev1.Pod) {
			p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "node2"}
		}), want: "node2"},
		"nowhere": {pod: testPod("a", func(p *corev1.Pod) {
			p.Spec.NodeSelector = map[string]string{"no": "such"}
		}), want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := testNodes()
			if c.taint != "" {
				nodes[0].Spec.Taints = []corev1.Taint{{Key: "k", Effect: c.taint}}
			}
			require.Equal(t, c.want, choose(c.pod, nodes, c.placed))
		})
	}
}
