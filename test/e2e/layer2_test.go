//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// The ports of the Services, and what the web Pods do there.
const (
	httpPort   = 80 // TCP: answers with the Pod's name, or with the client's address
	echoPort   = 81 // UDP: answers with the packet
	clientPort = 82 // UDP: answers with the client's address
)

// right are the nodes whose Pods are endpoints of the Services with
// externalTrafficPolicy Local.
var right = []string{"node2", "node3"}

// TestLayer2 goes over rows L1 to L11 for IPv4, IPv6 and dual stack, TCP and UDP, and both
// external traffic policies, with each mode of kube-proxy. What asks about one Service goes
// on for all at the same time; what happens to nodes follows, one thing after the other.
func TestLayer2(t *testing.T) {
	for _, world := range []testbed.Options{
		{Nodes: 3, Proxy: "nftables", Mgmt: "lan"},
		{Nodes: 3, Proxy: "iptables", Mgmt: "separate"},
	} {
		t.Run(world.Proxy+", management network "+world.Mgmt, func(t *testing.T) {
			m := &matrix{lab: up(t, world), separate: world.Mgmt == "separate"}
			m.prepare()
			m.each("L1 one node answers", (*matrix).answered)
			m.run("Services", true, []row{
				{"L2 endpoints of several slices", (*matrix).endpointSlices},
				{"L3 no usable endpoint", (*matrix).noEndpoint},
				{"L4 node selector, and an interface that is not there", (*matrix).notEligible},
				{"L5 how and where it is asked", (*matrix).howItIsAsked},
				{"L6 two Services on one address", (*matrix).twoOnOne},
				{"L7 every form of a solicitation", (*matrix).solicitations},
				{"L9 the two addresses on different nodes", (*matrix).apart},
			})
			m.run("nodes", false, []row{
				{"L4 exclude label", func(m *matrix) { m.ineligible("node2", m.exclude) }},
				{"L4 NetworkUnavailable", func(m *matrix) { m.ineligible("node3", m.networkUnavailable) }},
				{"L10 a node returns", func(m *matrix) { m.cutAndReturn("node3") }},
				{"L10 a node returns without a control plane", (*matrix).cutWithoutControlPlane},
				{"L8 the interface of a node that answers disappears", (*matrix).interfaceDisappears},
				{"L11 the stream to the CCM breaks", (*matrix).streamBreaks},
				{"L8 the interface changes, goes and returns", (*matrix).interfaceChanges},
			})
		})
	}
}

// matrix is a lab with a Service for each combination of families and traffic policy.
type matrix struct {
	*lab
	separate bool
	services []combination
}

type combination struct {
	name, text string
	local      bool
	addresses  []netip.Addr
}

type row struct {
	name string
	play func(*matrix)
}

func (m *matrix) with(t *testing.T) *matrix {
	return &matrix{lab: m.lab.with(t), separate: m.separate, services: m.services}
}

// run plays rows, all at the same time or one after the other.
func (m *matrix) run(name string, parallel bool, rows []row) {
	m.T.Run(name, func(t *testing.T) {
		for _, r := range rows {
			t.Run(r.name, func(t *testing.T) {
				if parallel {
					t.Parallel()
				}
				r.play(m.with(t))
			})
		}
	})
}

// each asks a question about every address of every Service and over both protocols.
func (m *matrix) each(name string, ask func(*matrix, combination, netip.Addr)) {
	m.T.Run(name, func(t *testing.T) {
		for _, c := range m.services {
			for _, address := range c.addresses {
				t.Run(c.text+": "+address.String(), func(t *testing.T) {
					t.Parallel()
					ask(m.with(t), c, address)
				})
			}
		}
	})
}

// families are the values of a Service's fields.
var families = []struct {
	name   string
	policy corev1.IPFamilyPolicy
	list   []corev1.IPFamily
}{
	{"v4", corev1.IPFamilyPolicySingleStack, []corev1.IPFamily{corev1.IPv4Protocol}},
	{"v6", corev1.IPFamilyPolicySingleStack, []corev1.IPFamily{corev1.IPv6Protocol}},
	{"dual", corev1.IPFamilyPolicyRequireDualStack, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}},
}

// of makes a Service one of these families with TCP and UDP ports.
func of(family int, local bool) func(*corev1.Service) {
	f := families[family]
	return func(svc *corev1.Service) {
		svc.Spec.IPFamilyPolicy, svc.Spec.IPFamilies = &f.policy, f.list
		port := func(name string, protocol corev1.Protocol, number, target int32) corev1.ServicePort {
			return corev1.ServicePort{Name: name, Protocol: protocol, Port: number, TargetPort: intstr.FromInt32(target)}
		}
		svc.Spec.Ports = []corev1.ServicePort{
			port("http", corev1.ProtocolTCP, httpPort, 8080),
			port("echo", corev1.ProtocolUDP, echoPort, 8081),
			port("client", corev1.ProtocolUDP, clientPort, 8082),
		}
		if local {
			svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			svc.Spec.Selector = map[string]string{"app": "web", "side": "right"}
		}
	}
}

const dual = 2

// prepare makes the pools, the labels and the Services.
func (m *matrix) prepare() {
	m.Helper()
	m.configure(m.pools())
	for _, node := range right {
		_, err := m.c.Kubectl(m.Context(), "label", "pod", "--selector", "app=web,node="+node, "side=right")
		require.NoError(m, err)
	}
	for family := range families {
		for _, policy := range []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal} {
			local := policy == corev1.ServiceExternalTrafficPolicyLocal
			c := combination{name: families[family].name + "-" + strings.ToLower(string(policy)), local: local}
			c.text = families[family].name + ", " + string(policy)
			m.create(c.name, of(family, local))
			m.services = append(m.services, c)
		}
	}
	for i, c := range m.services {
		m.services[i].addresses = m.addresses(c.name, len(families[i/2].list))
	}
}

// pools has beside the default pool one that only node2 may announce, and one whose
// interface no node has.
func (m *matrix) pools() string {
	v4, v6 := m.c.PoolV4().Addr(), m.c.PoolV6().Addr()
	pool := func(name string, number int, rest string) string {
		part := v6.As16()
		part[8] = byte(number)
		return fmt.Sprintf("- {name: %s, addresses: [%s/24, %s/72], %s}\n", name, plus(v4, 256*number), netip.AddrFrom16(part), rest)
	}
	return "apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\nfailover: " + slowFailover + "\npools:\n" +
		pool("default", 0, "l2: [{interface: eth0}]") +
		pool("selected", 1, "autoAssign: false, l2: [{interface: eth0, nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node2}}]}]") +
		pool("elsewhere", 2, "autoAssign: false, l2: [{interface: eth7}]")
}

// from makes a Service that takes its addresses from that pool.
func from(pool string, change func(*corev1.Service)) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		change(svc)
		svc.Annotations = map[string]string{"baremetal.cloud/pool": pool}
	}
}

// answered is the whole question about one address: exactly one node answers, with Local
// one that has an endpoint; both protocols come through, with Local under the client's own
// address.
func (m *matrix) answered(c combination, address netip.Addr) {
	m.Helper()
	node := m.nodeOf(m.addressOwner(address))
	m.works(address)
	if c.local {
		require.Contains(m, right, node, "L2: only nodes with an endpoint answer")
		m.seen(address)
	}
}

// works waits until TCP and UDP come through an address.
func (m *matrix) works(address netip.Addr) {
	m.Helper()
	m.requested(address)
	m.eventually(func(t *assert.CollectT) {
		answer, err := m.datagram(address, echoPort, "hello "+address.String())
		require.NoError(t, err)
		require.Equal(t, "hello "+address.String(), answer)
	}, "no echo from %s", address)
}

// seen waits until the Pods see the client under its own address, over both protocols.
func (m *matrix) seen(address netip.Addr) {
	m.Helper()
	client := m.c.Layout().Client.LAN.V4
	if address.Is6() {
		client = m.c.Layout().Client.LAN.V6
	}
	m.eventually(func(t *assert.CollectT) {
		overTCP, err := m.c.Curl(m.Context(), "http://"+net.JoinHostPort(address.String(), fmt.Sprint(httpPort))+"/client")
		require.NoError(t, err)
		require.Equal(t, client.String(), strings.TrimSpace(overTCP), "TCP")
		overUDP, err := m.datagram(address, clientPort, "who am I?")
		require.NoError(t, err)
		require.Equal(t, client.String(), overUDP, "UDP")
	}, "who the client is behind %s", address)
}

// datagram sends a packet from a new port of the client, and returns what comes back.
func (m *matrix) datagram(address netip.Addr, port uint16, text string) (string, error) {
	conn, err := netns.Dialer(m.c.NetNS("client"))(m.Context(), "udp", netip.AddrPortFrom(address, port).String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte(text)); err != nil {
		return "", err
	}
	buffer := make([]byte, 1500)
	n, err := conn.Read(buffer)
	return string(buffer[:n]), err
}

// asked returns who answers a question that is put in a particular way.
func (m *matrix) asked(q testbed.Question) []string {
	m.Helper()
	answers, err := m.c.Ask(m.Context(), q, 20)
	require.NoError(m, err)
	return slices.Sorted(maps.Keys(answers))
}

// noEndpoint: nobody answers, and the condition says so.
func (m *matrix) noEndpoint() {
	for family, f := range families {
		for _, local := range []bool{false, true} {
			m.T.Run(fmt.Sprintf("%s, Local %v", f.name, local), func(t *testing.T) {
				t.Parallel()
				m, name := m.with(t), fmt.Sprintf("empty-%s-%v", f.name, local)
				m.create(name, func(svc *corev1.Service) {
					of(family, local)(svc)
					svc.Spec.Selector = map[string]string{"app": "nobody"}
				})
				addresses := m.addresses(name, len(f.list))
				m.says(name, "baremetal.cloud/Announced", "NoEndpoints")
				for _, address := range addresses {
					m.silent(address)
				}
				m.delete(name)
			})
		}
	}
}

// notEligible: the pool's node selector leaves one node, whose address it is then; where
// no node has the interface nobody answers, with the reason.
func (m *matrix) notEligible() {
	m.create("selected", from("selected", of(dual, false)))
	m.create("elsewhere", from("elsewhere", of(dual, false)))
	for _, address := range m.addresses("selected", 2) {
		m.answeredBy(address, "node2")
		m.works(address)
	}
	for _, address := range m.addresses("elsewhere", 2) {
		m.silent(address)
	}
	m.says("elsewhere", "baremetal.cloud/Announced", "NoEligibleNode")
	m.told("elsewhere", "NoEligibleNode", "no interface eth7 on 3 nodes (node1, node2, node3)")
}

// howItIsAsked: a question to everybody or to our hardware address is answered, for an
// address that we own and where it is announced.
func (m *matrix) howItIsAsked() {
	m.create("asked", of(dual, false))
	stranger := net.HardwareAddr{2, 0, 0, 0, 0, 0x99} // the switch does not know it and asks everywhere
	for _, address := range m.addresses("asked", 2) {
		mac := m.addressOwner(address)
		owner, err := net.ParseMAC(mac)
		require.NoError(m, err)
		free := m.c.PoolV4().Addr()
		if address.Is6() {
			free = m.c.PoolV6().Addr()
		}
		require.Equal(m, []string{mac}, m.asked(testbed.Question{Address: address}), "asked by broadcast")
		require.Equal(m, []string{mac}, m.asked(testbed.Question{Address: address, To: owner}), "asked at its hardware address")
		require.Empty(m, m.asked(testbed.Question{Address: address, To: stranger}), "asked at another's hardware address")
		require.Empty(m, m.asked(testbed.Question{Address: address, Form: testbed.Reply}), "told, not asked")
		require.Empty(m, m.asked(testbed.Question{Address: plus(free, 250)}), "asked for another address")
		if m.separate {
			require.Empty(m, m.asked(testbed.Question{Address: address, Host: "cp"}), "asked on another interface")
		}
	}
}

// twoOnOne: of two Services that share an address one is deleted, and it goes on being
// answered for the other.
func (m *matrix) twoOnOne() {
	for _, family := range []int{0, 1, dual} {
		m.T.Run(families[family].name, func(t *testing.T) {
			t.Parallel()
			m := m.with(t)
			sharing := func(protocol corev1.Protocol) func(*corev1.Service) {
				return func(svc *corev1.Service) {
					of(family, false)(svc)
					svc.Annotations = map[string]string{"baremetal.cloud/sharing-key": "shared-" + families[family].name}
					svc.Spec.Ports = slices.DeleteFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Protocol != protocol })
				}
			}
			tcp, udp := "tcp-"+families[family].name, "udp-"+families[family].name
			m.create(tcp, sharing(corev1.ProtocolTCP))
			addresses := m.addresses(tcp, len(families[family].list))
			m.create(udp, sharing(corev1.ProtocolUDP))
			require.Equal(t, addresses, m.addresses(udp, len(addresses)))
			var macs []string
			for _, address := range addresses {
				macs = append(macs, m.addressOwner(address))
				m.works(address)
			}
			m.delete(tcp)
			for i, address := range addresses {
				m.stays(address, macs[i])
				m.eventually(func(t *assert.CollectT) {
					_, err := m.datagram(address, echoPort, "still here")
					require.NoError(t, err)
				})
			}
			m.delete(udp)
			for _, address := range addresses {
				m.silent(address)
			}
		})
	}
}

// solicitations: with and without the asker's link-layer address, to everybody and to one,
// and as somebody asks who is about to use the address itself. ARP has fewer forms.
func (m *matrix) solicitations() {
	m.create("forms", of(dual, false))
	for _, address := range m.addresses("forms", 2) {
		mac := m.addressOwner(address)
		owner, err := net.ParseMAC(mac)
		require.NoError(m, err)
		forms := map[string]testbed.Question{
			"without link-layer address":           {Form: testbed.Bare},
			"unicast":                              {To: owner},
			"unicast, without link-layer address":  {To: owner, Form: testbed.Bare},
			"before its first use by another host": {Form: testbed.Probe},
		}
		for name, q := range forms {
			q.Address = address
			require.Equal(m, []string{mac}, m.asked(q), "%s, %s", address, name)
		}
	}
}

// apart: the endpoints of a dual-stack Service with policy Local are of one family on one
// node and of the other on another: the addresses follow, and both work.
func (m *matrix) apart() {
	m.create("apart", func(svc *corev1.Service) {
		of(dual, true)(svc)
		svc.Spec.Selector = nil // its endpoints are written by hand
	})
	m.slice("apart", "v4", corev1.IPv4Protocol, endpoint{node: "node1", ready: true, serving: true})
	m.slice("apart", "v6", corev1.IPv6Protocol, endpoint{node: "node2", ready: true, serving: true})
	for i, address := range m.addresses("apart", 2) {
		m.answeredBy(address, fmt.Sprint("node", 1+i))
		m.works(address)
		m.seen(address)
	}
}

// endpointSlices: with policy Local a node answers that has a usable endpoint, in whichever
// slice; one that is only serving counts where nothing is ready any more.
func (m *matrix) endpointSlices() {
	for family, f := range families {
		m.T.Run(f.name, func(t *testing.T) {
			t.Parallel()
			m, name := m.with(t), "slices-"+f.name
			m.create(name, func(svc *corev1.Service) {
				of(family, true)(svc)
				svc.Spec.Selector = nil
			})
			put := func(first, second endpoint) {
				for _, kind := range f.list {
					m.slice(name, "first", kind, first)
					m.slice(name, "second", kind, second)
				}
			}
			put(endpoint{node: "node1", serving: true}, endpoint{node: "node2", ready: true, serving: true})
			addresses := m.addresses(name, len(f.list))
			owned := func(node string) {
				t.Helper()
				for _, address := range addresses {
					m.answeredBy(address, node)
					m.works(address)
					m.seen(address)
				}
			}
			owned("node2")
			put(endpoint{node: "node1", serving: true}, endpoint{node: "node2"})
			owned("node1")
			put(endpoint{node: "node3", ready: true, serving: true}, endpoint{node: "node2"})
			owned("node3")
			put(endpoint{node: "node1"}, endpoint{node: "node2"})
			for _, address := range addresses {
				m.silent(address)
			}
			m.says(name, "baremetal.cloud/Announced", "NoEndpoints")
			m.delete(name)
		})
	}
}

// owners returns which node answers for each address of the combinations.
func (m *matrix) owners() map[netip.Addr]string {
	m.Helper()
	var addresses []netip.Addr
	for _, c := range m.services {
		addresses = append(addresses, c.addresses...)
	}
	out := map[netip.Addr]string{}
	m.until(func() bool {
		for address, macs := range m.answering(addresses) {
			if len(macs) != 1 {
				return false
			}
			out[address] = m.nodeOf(macs[0])
		}
		return true
	}, "not one node answers for each of %v", addresses)
	return out
}

// answeredBy waits until a node, and nobody else, answers for an address.
func (l *lab) answeredBy(address netip.Addr, node string) {
	l.Helper()
	l.until(func() bool { return slices.Equal(l.addressOwners(address), []string{l.c.NodeMAC(node)}) }, "%s does not answer for %s", node, address)
}

// answering returns the MACs that answer for each address, all asked at the same time.
func (l *lab) answering(addresses []netip.Addr) map[netip.Addr][]string {
	l.Helper()
	out := make([][]string, len(addresses))
	var group errgroup.Group
	for i, address := range addresses {
		group.Go(func() error {
			macs, err := l.c.Ask(l.Context(), testbed.Question{Address: address}, 20)
			out[i] = slices.Sorted(maps.Keys(macs))
			return err
		})
	}
	require.NoError(l, group.Wait())
	byAddress := map[netip.Addr][]string{}
	for i, address := range addresses {
		byAddress[address] = out[i]
	}
	return byAddress
}

// ownedBy returns the addresses that a node answers for, sorted.
func ownedBy(owners map[netip.Addr]string, node string) []netip.Addr {
	var out []netip.Addr
	for address, owner := range owners {
		if owner == node {
			out = append(out, address)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
