//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// ineligible makes a node one that may not announce: what it answered for moves, nothing
// else does, and when it may again it takes nothing back.
func (m *matrix) ineligible(node string, make func(node string) (undo func())) {
	m.Helper()
	before := m.owners()
	undo := make(node)
	between := m.leaves(node, before)
	m.each("another answers", (*matrix).answered)
	undo()
	m.unmoved(between)
}

// leaves waits until a node answers for nothing any more, and returns who does. What others
// answered for stays with them.
func (m *matrix) leaves(node string, before map[netip.Addr]string) map[netip.Addr]string {
	m.Helper()
	var between map[netip.Addr]string
	m.until(func() bool {
		between = m.owners()
		return len(ownedBy(between, node)) == 0
	}, "%s still answers", node)
	for address, owner := range before {
		if owner != node {
			require.Equal(m, owner, between[address], "%s moved for nothing", address)
		}
	}
	return between
}

func (m *matrix) exclude(node string) (undo func()) {
	m.label(node, corev1.LabelNodeExcludeBalancers, "true")
	return func() { m.unlabel(node, corev1.LabelNodeExcludeBalancers) }
}

func (m *matrix) networkUnavailable(node string) (undo func()) {
	set := func(status corev1.ConditionStatus) {
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{
			{Type: corev1.NodeNetworkUnavailable, Status: status, Reason: "Test"},
		}}})
		require.NoError(m, err)
		_, err = m.client.CoreV1().Nodes().Patch(m.Context(), node, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		require.NoError(m, err)
	}
	set(corev1.ConditionTrue)
	return func() { set(corev1.ConditionFalse) }
}

// unmoved checks that for a while each address is answered by one node, the same as before.
func (m *matrix) unmoved(owners map[netip.Addr]string) {
	m.Helper()
	want := map[netip.Addr][]string{}
	for address, node := range owners {
		want[address] = []string{m.c.NodeMAC(node)}
	}
	for range 5 {
		require.Equal(m, want, m.answering(slices.Collect(maps.Keys(owners))))
	}
}

// cutAndReturn cuts a node off and has it return: what it answered for another answers
// for, and goes on doing so.
func (m *matrix) cutAndReturn(node string) {
	m.Helper()
	before := m.owners()
	require.NoError(m, m.c.Cut(m.Context(), node, testbed.Silent))
	between := m.leaves(node, before)
	require.NoError(m, m.c.Heal(m.Context(), node))
	require.Equal(m, between, m.owners()) // both answer until they have heard each other
	m.unmoved(between)
	m.each("as before", (*matrix).answered)
	m.unmoved(between)
}

func (m *matrix) cutWithoutControlPlane() {
	for _, what := range []string{"ccm", "apiserver"} {
		m.stop(what)
	}
	m.cutAndReturn("node2")
	for _, what := range []string{"apiserver", "ccm"} {
		m.start(what)
	}
	m.leader("")
}

// streamBreaks cuts a node's announcer off the CCM, while its LAN is fine: nothing moves,
// and no new address is placed there until it is back.
func (m *matrix) streamBreaks() {
	const node = "node2"
	alone := func(svc *corev1.Service) {
		of(dual, true)(svc)
		svc.Spec.Selector = map[string]string{"app": "web", "node": node}
	}
	m.create("there-before", alone)
	owners := m.owners()
	for _, address := range m.addresses("there-before", 2) {
		owners[address] = m.nodeOf(m.addressOwner(address))
		require.Equal(m, node, owners[address])
	}
	heal := m.block(node, 10270)
	m.until(func() bool { return m.metric(`baremetal_ccm_control_streams{state="planned"}`) == "2" }, "the stream of %s still stands", node)
	m.create("there-meanwhile", alone)
	m.addresses("there-meanwhile", 2)
	m.told("there-meanwhile", "NoLocalEndpoints", "no announcer of node "+node+" is connected")
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); {
		m.unmoved(owners)
	}
	m.each("as before", (*matrix).answered)
	heal()
	for _, address := range m.addresses("there-meanwhile", 2) {
		m.answeredBy(address, node)
		m.works(address)
	}
	m.unmoved(owners)
}

// block has a node refuse what it sends to a TCP port and what comes from there.
func (m *matrix) block(node string, port int) (heal func()) {
	m.Helper()
	nft := func(command string) {
		m.Helper()
		out, err := m.c.In(m.Context(), node, append([]string{"nft"}, strings.Fields(command)...)...)
		require.NoError(m, err, out)
	}
	nft("add table inet blocked")
	for hook, direction := range map[string]string{"output": "dport", "input": "sport"} {
		nft("add chain inet blocked " + hook + " { type filter hook " + hook + " priority 0 ; }")
		nft(fmt.Sprintf("add rule inet blocked %s tcp %s %d reject with tcp reset", hook, direction, port))
	}
	return func() { nft("delete table inet blocked") }
}

// interfaceChanges has everything happen to a node's interface that may. The address can
// be nowhere else; answers follow, and the announcer is never started again.
func (m *matrix) interfaceChanges() {
	const node = "node3"
	m.create("nic", func(svc *corev1.Service) {
		of(dual, true)(svc)
		svc.Spec.Selector = map[string]string{"app": "web", "node": node}
	})
	addresses := m.addresses("nic", 2)
	process := m.announcer(node)
	follows := func() {
		m.Helper()
		for _, address := range addresses {
			m.until(func() bool { return slices.Equal(m.addressOwners(address), []string{m.hardware(node)}) }, "%s does not answer for %s", node, address)
			m.works(address)
		}
	}
	silent := func() {
		m.Helper()
		for _, address := range addresses {
			m.silent(address)
		}
	}
	ip := func(commands ...string) {
		m.Helper()
		require.NoError(m, netns.Batch(m.Context(), m.c.NetNS(node), strings.Join(commands, "\n")+"\n"))
	}
	restore := func() {
		m.Helper()
		require.NoError(m, m.c.Restore(m.Context(), node))
	}
	follows()
	was := m.hardware(node)
	ip("link set eth0 address 02:00:00:00:33:01")
	follows()
	ip("link set eth0 address " + was)
	follows()

	ip("link set eth0 down")
	silent()
	restore()
	follows()

	require.NoError(m, m.c.Cut(m.Context(), node, testbed.Loud))
	silent()
	require.NoError(m, m.c.Heal(m.Context(), node))
	restore()
	follows()

	ip("link set eth0 down", "link set eth0 name lan0", "link set lan0 up")
	silent()
	ip("link set lan0 down", "link set lan0 name eth0")
	restore()
	follows()

	ip("link add br9 type bridge", "link set br9 up", "link set eth0 master br9")
	silent()
	ip("link set eth0 nomaster", "link delete br9")
	restore()
	follows()

	require.NoError(m, m.c.Unplug(m.Context(), node))
	silent()
	require.NoError(m, m.c.Plug(m.Context(), node))
	require.NotEqual(m, was, m.hardware(node), "it is another one")
	follows()
	// Everything else knows the node by its first hardware address.
	ip("link set eth0 address " + was)
	follows()
	require.Equal(m, process, m.announcer(node), "the announcer was started again")
	m.delete("nic")
	m.each("as before", (*matrix).answered)
}

// interfaceDisappears takes the interface out of a node that answers: others do, and when it
// is back it takes nothing back.
func (m *matrix) interfaceDisappears() {
	before := m.owners()
	node := before[m.services[1].addresses[0]]
	was, process := m.hardware(node), m.announcer(node)
	require.NoError(m, m.c.Unplug(m.Context(), node))
	between := m.leaves(node, before)
	require.NoError(m, m.c.Plug(m.Context(), node))
	require.NoError(m, netns.Batch(m.Context(), m.c.NetNS(node), "link set eth0 address "+was+"\n"))
	m.unmoved(between)
	m.each("as before", (*matrix).answered)
	m.unmoved(between)
	require.Equal(m, process, m.announcer(node), "the announcer was started again")
}

// hardware returns the address of a node's interface on the LAN as it is now.
func (m *matrix) hardware(node string) string {
	m.Helper()
	var mac string
	require.NoError(m, netns.Do(m.c.NetNS(node), func() error {
		i, err := net.InterfaceByName("eth0")
		if err == nil {
			mac = i.HardwareAddr.String()
		}
		return err
	}))
	return mac
}

// announcer names the run of a node's announcer.
func (m *matrix) announcer(node string) string {
	m.Helper()
	pods, err := m.client.CoreV1().Pods(system).List(m.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	require.NoError(m, err)
	i := slices.IndexFunc(pods.Items, func(p corev1.Pod) bool { return strings.HasPrefix(p.Name, "baremetal-announcer-") })
	require.GreaterOrEqual(m, i, 0)
	require.Len(m, pods.Items[i].Status.ContainerStatuses, 1)
	return fmt.Sprint(pods.Items[i].Name, " ", pods.Items[i].Status.ContainerStatuses[0].RestartCount)
}

// endpoint is the web Pod of a node as an EndpointSlice may show it.
type endpoint struct {
	node           string
	ready, serving bool
}

// slice makes an EndpointSlice of a Service what it says, beside others.
func (m *matrix) slice(service, name string, family corev1.IPFamily, e endpoint) {
	m.Helper()
	pods, err := m.client.CoreV1().Pods("default").List(m.Context(), metav1.ListOptions{LabelSelector: "app=web,node=" + e.node})
	require.NoError(m, err)
	require.Len(m, pods.Items, 1)
	terminating := !e.ready
	out := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: service + "-" + name + "-" + strings.ToLower(string(family)),
			Labels: map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "test"},
		},
		AddressType: discoveryv1.AddressType(family),
	}
	for _, p := range []struct {
		name     string
		protocol corev1.Protocol
		port     int32
	}{{"http", corev1.ProtocolTCP, 8080}, {"echo", corev1.ProtocolUDP, 8081}, {"client", corev1.ProtocolUDP, 8082}} {
		out.Ports = append(out.Ports, discoveryv1.EndpointPort{Name: &p.name, Protocol: &p.protocol, Port: &p.port})
	}
	for _, ip := range pods.Items[0].Status.PodIPs {
		if netip.MustParseAddr(ip.IP).Is4() == (family == corev1.IPv4Protocol) {
			out.Endpoints = []discoveryv1.Endpoint{{
				Addresses: []string{ip.IP}, NodeName: &e.node,
				Conditions: discoveryv1.EndpointConditions{Ready: &e.ready, Serving: &e.serving, Terminating: &terminating},
			}}
		}
	}
	require.Len(m, out.Endpoints, 1)
	slices := m.client.DiscoveryV1().EndpointSlices("default")
	_, err = slices.Update(m.Context(), out, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = slices.Create(m.Context(), out, metav1.CreateOptions{})
	}
	require.NoError(m, err)
}
