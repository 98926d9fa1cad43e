//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// TestFault_K1_2_ARogueNode, whose announcer is not ours but has its token, and strangers that
// have none, do what they can to the CCM: no input costs much of any program of ours, or moves
// an address of another node.
func TestFault_K1_2_ARogueNode(t *testing.T) {
	w := up(t, testbed.Options{Nodes: 3, Proxy: "nftables", Mgmt: "lan"}).witness()
	const bad = "node3"
	w.label(bad, corev1.LabelNodeExcludeBalancers, "true") // it is a candidate for nothing
	for i := range 4 {
		w.create(fmt.Sprint("web-", i), of(dual, false))
	}
	var addresses []netip.Addr
	for i := range 4 {
		addresses = append(addresses, w.addresses(fmt.Sprint("web-", i), 2)...)
	}
	var often []string
	if !long() {
		often = append(often, "--announcer-token-review-interval=10s")
	}
	w.keepReplicas(often...)
	token := w.podToken(w.announcerPod(bad))
	w.stop("announcer:" + bad)
	r := w.rogue(bad, bad, token)
	ours := w.ours("node1", "node2")
	before := w.ownersOf(addresses)
	for _, input := range []struct {
		name string
		do   func(context.Context)
	}{
		{"K1.2 reports as large as they may be", func(ctx context.Context) { r.speak(ctx, report(interfaces(64, 32, 0)), largeReports(64, 32)) }},
		{"K1.2 reports that are too large", func(ctx context.Context) { r.speak(ctx, report(interfaces(1000, 500, 0)), largeReports(1000, 500)) }},
		{"K1.6 streams that are refused at once", func(ctx context.Context) { r.speak(ctx, &pb.Report{}, higherTerms) }},
		{"K1.5 ever higher terms", func(ctx context.Context) { r.speak(ctx, report(nil), higherTerms) }},
		{"K1.6 a Hello of 8 MiB", func(ctx context.Context) { w.strangersSpeak(ctx, strings.Repeat("x", 8<<20)) }},
		{"K1.6 silent connections", func(ctx context.Context) { w.silentConnections(ctx) }},
		{"K1.7 forged tokens", func(ctx context.Context) { w.strangersSpeak(ctx, "stranger") }},
		{"K1.7 a tenant's texts of 200 KB", func(ctx context.Context) { w.longTexts(ctx) }},
	} {
		t.Run(input.name, func(t *testing.T) {
			w := w.with(t)
			const short = 6 * time.Second
			if lasting(time.Minute, short) == short && (strings.Contains(input.name, "Hello of") || strings.Contains(input.name, "forged")) {
				// Of a minute, which the bound is of, the connections that may come at once are a small part.
				first, cancel := context.WithTimeout(w.Context(), 10*time.Second)
				input.do(first)
				cancel()
			}
			w.costs(ours, lasting(time.Minute, short), input.do)
			require.Equal(w, before, w.ownersOf(addresses))
		})
	}
	t.Run("K1.7 nodes come in while strangers flood", func(t *testing.T) { w.with(t).comeInDuringFlood() })
	t.Run("K4.5 a deleted Pod's stream ends", func(t *testing.T) { w.with(t).deletedPodsStreamEnds() })
	t.Run("a rogue report while a node dies", func(t *testing.T) { w.with(t).nodeDiesUnderLies(r, addresses) })
}

// ownersOf returns the node that answers for each address.
func (l *lab) ownersOf(addresses []netip.Addr) map[netip.Addr]string {
	l.Helper()
	var out map[netip.Addr]string
	l.until(func() bool {
		out = map[netip.Addr]string{}
		for address, macs := range l.answering(addresses) {
			if len(macs) != 1 {
				return false
			}
			out[address] = l.nodeOf(macs[0])
		}
		return true
	}, "not each address is answered by one node")
	return out
}

// report is a whole report of a node that has these interfaces.
func report(interfaces []*pb.Interface) *pb.Report {
	return &pb.Report{Snapshot: true, Interfaces: interfaces, InterfacesChanged: true}
}

// interfaces are so many with so many prefixes each, others for each i.
func interfaces(count, prefixes, i int) (out []*pb.Interface) {
	for n := range count {
		one := &pb.Interface{Name: fmt.Sprintf("eth%04d", n), Mac: fmt.Sprintf("06:00:00:00:%02x:%02x", n>>8, n&0xff)}
		for p := range prefixes {
			address := netip.AddrFrom4([4]byte{10, byte(n), byte(p), byte(1 + i%200)})
			one.Prefixes = append(one.Prefixes, netip.PrefixFrom(address, 24).String())
		}
		out = append(out, one)
	}
	return out
}

func largeReports(count, prefixes int) func(int) *pb.Report {
	two := []*pb.Report{report(interfaces(count, prefixes, 1)), report(interfaces(count, prefixes, 2))}
	for _, r := range two {
		r.Snapshot = false
	}
	return func(i int) *pb.Report { return two[i%2] }
}

// higherTerms are five times as high as plausible, and as high as may be, in turn.
func higherTerms(i int) *pb.Report {
	term := uint64(1+i) << 18
	if i%2 == 0 {
		return &pb.Report{Highest: &pb.Version{Term: term}, Plan: &pb.Version{Term: term}}
	}
	return &pb.Report{Implausible: &pb.Version{Term: uint64(1)<<62 + uint64(i)}}
}

// strangersSpeak has eight machines with forged tokens open streams in the name of nodes, and
// say Hello with that text, as fast as they are refused. Four of them are Pods behind a node's
// own address.
func (l *lab) strangersSpeak(ctx context.Context, software string) {
	l.Helper()
	var speaking sync.WaitGroup
	for n, host := range []string{"client", "client", "client", "client", "node1", "node1", "node2", "node2"} {
		r := l.rogue(host, fmt.Sprint("node", 1+n%2), "")
		speaking.Go(func() {
			for i := n << 20; ctx.Err() == nil; i++ {
				r.token = forged(r.node, i)
				r.refused(ctx, r.replicas[i%len(r.replicas)], software)
			}
		})
	}
	speaking.Wait()
}

// refused opens a stream, says Hello and waits until it is refused.
func (r rogue) refused(ctx context.Context, replica, software string) {
	conn, err := r.dial(replica)
	if err != nil {
		return
	}
	defer conn.Close()
	stream, err := r.connect(ctx, conn)
	if err != nil {
		return
	}
	go func() {
		_ = stream.Send(&pb.FromNode{Message: &pb.FromNode_Hello{Hello: &pb.Hello{Software: software}}})
	}()
	drain(stream)
}

// silentConnections opens connections that never say anything, half of them after TLS.
func (l *lab) silentConnections(ctx context.Context) {
	l.Helper()
	r := l.rogue("client", "", "")
	dial := netns.Dialer(r.host)
	open := make([]net.Conn, 4096) // more than a replica takes; this process has a limit, too
	steadily(ctx, 500, func(i int) {
		conn, err := dial(ctx, "tcp", r.replicas[i%len(r.replicas)])
		if err != nil {
			return
		}
		if before := open[i%len(open)]; before != nil {
			_ = before.Close()
		}
		open[i%len(open)] = conn
		if i%2 == 0 {
			go func() { _ = tls.Client(conn, r.tls).HandshakeContext(ctx) }()
		}
	})
	for _, conn := range open {
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// longTexts has a tenant write what is quoted in conditions and Events, ten times a second.
func (l *lab) longTexts(ctx context.Context) {
	l.Helper()
	l.create("long", nil)
	steadily(ctx, 10, func(i int) {
		text := fmt.Sprintf(`{"metadata":{"annotations":{"baremetal.cloud/pool":"%d%s"}}}`, i, strings.Repeat("x", 200_000))
		_, _ = l.client.CoreV1().Services("default").Patch(ctx, "long", types.MergePatchType, []byte(text), metav1.PatchOptions{})
	})
	l.delete("long")
}

// comeInDuringFlood has a replica start while strangers, Pods behind nodes' addresses among
// them, flood it: the nodes whose address no stranger shares are in within 30 s.
func (w *witness) comeInDuringFlood() {
	w.Helper()
	ctx, stop := context.WithCancel(w.Context())
	var flooding sync.WaitGroup
	flooding.Go(func() { w.strangersSpeak(ctx, "stranger") })
	flooding.Go(func() { w.silentConnections(ctx) })
	w.start("announcer:node3")
	w.stop("ccm:node1")
	w.start("ccm:node1")
	began := time.Now()
	replica := netip.AddrPortFrom(w.c.Address("node1").V4, 10270)
	w.eventually(func(t *assert.CollectT) {
		out, err := w.c.In(w.Context(), "node3", "curl", "-s", "-m", "2", "http://127.0.0.1:10271/metrics")
		require.NoError(t, err)
		require.Contains(t, out, fmt.Sprintf("baremetal_announcer_control_stream_up{replica=%q} 1\n", replica))
	})
	w.Logf("in after %s", time.Since(began).Round(time.Millisecond))
	require.Less(w, time.Since(began), 30*time.Second)
	stop()
	flooding.Wait()
	w.stop("announcer:node3")
}

// deletedPodsStreamEnds deletes the Pod of an announcer whose process goes on, on a machine
// whose kubelet is gone: its stream ends by the next review, and its token opens no other one.
func (w *witness) deletedPodsStreamEnds() {
	w.Helper()
	const node = "bare"
	address := w.c.Address("client").V4
	w.Cleanup(func() { _ = w.client.CoreV1().Nodes().Delete(context.Background(), node, metav1.DeleteOptions{}) })
	_, err := w.client.CoreV1().Nodes().Create(w.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{})
	require.NoError(w, err)
	require.NoError(w, retry.RetryOnConflict(retry.DefaultBackoff, func() error { // other controllers taint a new Node
		bare, err := w.client.CoreV1().Nodes().Get(w.Context(), node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		bare.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address.String()}}
		_, err = w.client.CoreV1().Nodes().UpdateStatus(w.Context(), bare, metav1.UpdateOptions{})
		return err
	}))
	pod, err := w.client.CoreV1().Pods(system).Create(w.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "gone"},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: announcerAccount,
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers:  []corev1.Container{{Name: "announcer", Image: "none"}},
		},
	}, metav1.CreateOptions{})
	require.NoError(w, err)
	r := w.rogue("client", node, w.podToken(pod))
	conn, err := r.dial(r.replicas[0])
	require.NoError(w, err)
	defer conn.Close()
	stream, err := r.connect(w.Context(), conn)
	require.NoError(w, err)
	require.NoError(w, stream.Send(&pb.FromNode{Message: &pb.FromNode_Hello{Hello: &pb.Hello{Report: report(nil)}}}))
	welcome, err := stream.Recv()
	require.NoError(w, err)
	require.NotNil(w, welcome.GetWelcome())

	now := int64(0)
	require.NoError(w, w.client.CoreV1().Pods(system).Delete(w.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
	began := time.Now()
	drain(stream)
	w.Logf("the stream ended %s after the Pod was deleted: %v", time.Since(began).Round(time.Millisecond), stream.Trailer())
	require.Less(w, time.Since(began), lasting(5*time.Minute, 10*time.Second)+5*time.Second)
	require.Equal(w, []string{"token"}, stream.Trailer().Get("baremetal-cause"))
	again, err := r.connect(w.Context(), conn)
	require.NoError(w, err)
	drain(again)
	require.Equal(w, []string{"token"}, again.Trailer().Get("baremetal-cause"))
}

// nodeDiesUnderLies cuts a node off while the rogue reports that all others are down, that it
// has all addresses, and that they are its own. What the dead node answered for moves to the
// node that lives, and that one's own stay where they are.
func (w *witness) nodeDiesUnderLies(r rogue, addresses []netip.Addr) {
	w.Helper()
	leader, _ := w.leading()
	dying, living := "node1", "node2"
	if leader == dying {
		dying, living = living, dying
	}
	before := w.ownersOf(addresses)
	ctx, stop := context.WithCancel(w.Context())
	var lying sync.WaitGroup
	lying.Go(func() { r.speak(ctx, lies(addresses, 0), func(i int) *pb.Report { return lies(addresses, 1+i) }) })
	time.Sleep(2 * time.Second)
	require.NoError(w, w.c.Cut(w.Context(), dying, testbed.Silent))
	began := time.Now()
	for _, address := range addresses {
		if before[address] == living {
			w.stays(address, w.c.NodeMAC(living))
		}
	}
	for _, address := range addresses {
		w.answeredBy(address, living)
	}
	w.Logf("all answered by %s %s after %s was cut off", living, time.Since(began).Round(time.Millisecond), dying)
	for until := time.Now().Add(lasting(time.Minute, 5*time.Second)); time.Now().Before(until); {
		for _, address := range addresses {
			require.Equal(w, []string{w.c.NodeMAC(living)}, w.addressOwners(address))
		}
	}
	stop()
	lying.Wait()
	require.NoError(w, w.c.Heal(w.Context(), dying))
}

// lies are reports of a node that wants all for itself.
func lies(addresses []netip.Addr, i int) *pb.Report {
	out := &pb.Report{Snapshot: i == 0, Down: []string{"node1", "node2"}, InterfacesChanged: true}
	one := &pb.Interface{Name: "eth0", Mac: "06:00:00:00:00:03"}
	for _, address := range addresses {
		out.Claims = append(out.Claims, &pb.Claim{Address: address.AsSlice(), Version: &pb.Version{Term: 1 << 40, Revision: uint64(1 + i)}})
		one.Prefixes = append(one.Prefixes, netip.PrefixFrom(address, address.BitLen()).String())
	}
	out.Interfaces = []*pb.Interface{one}
	return out
}
