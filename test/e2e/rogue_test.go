//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

const (
	announcerAccount  = "baremetal-announcer"
	announcerAudience = "baremetal.cloud/announcer"
	// speaks is the only version of the protocol that a rogue speaks.
	speaks = "2-2"
)

// rogue dials replicas of the CCM by hand, and keeps to nothing that an announcer keeps to.
type rogue struct {
	// host is where its connections come from, node what it names, and token what it presents.
	host, node, token string
	// replicas are where the CCM listens.
	replicas []string
	tls      *tls.Config
}

// rogue returns one on a host of the testbed that names a node.
func (l *lab) rogue(host, node, token string) rogue {
	l.Helper()
	ca, err := l.client.CoreV1().ConfigMaps(system).Get(l.Context(), "baremetal-ccm-ca", metav1.GetOptions{})
	require.NoError(l, err)
	roots := x509.NewCertPool()
	require.True(l, roots.AppendCertsFromPEM([]byte(ca.Data["ca.crt"])))
	r := rogue{host: l.c.NetNS(host), node: node, token: token, tls: &tls.Config{RootCAs: roots, ServerName: system}}
	for _, replica := range l.nodes()[:2] {
		r.replicas = append(r.replicas, netip.AddrPortFrom(l.c.Address(replica).V4, 10270).String())
	}
	return r
}

// dial returns what makes connections to a replica, each stream on one of its own.
func (r rogue) dial(replica string) (*grpc.ClientConn, error) {
	dial := netns.Dialer(r.host)
	return grpc.NewClient("passthrough:///"+replica, grpc.WithNoProxy(), grpc.WithDisableRetry(),
		grpc.WithTransportCredentials(credentials.NewTLS(r.tls)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dial(ctx, "tcp", address) }))
}

// connect opens a stream. What the replica makes of it Recv says.
func (r rogue) connect(ctx context.Context, conn *grpc.ClientConn) (pb.Control_ConnectClient, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+r.token, "baremetal-node", r.node, "baremetal-protocol", speaks)
	return pb.NewControlClient(conn).Connect(ctx)
}

// speak says Hello to each replica, and then what next returns, again and again, as fast as
// it is read; a stream that ends is followed by another one. It returns when ctx ends.
func (r rogue) speak(ctx context.Context, hello *pb.Report, next func(i int) *pb.Report) {
	for _, replica := range r.replicas[1:] {
		go r.speakTo(ctx, replica, hello, next)
	}
	r.speakTo(ctx, r.replicas[0], hello, next)
}

func (r rogue) speakTo(ctx context.Context, replica string, hello *pb.Report, next func(i int) *pb.Report) {
	conn, err := r.dial(replica)
	if err != nil {
		return
	}
	defer conn.Close()
	for i := 0; ctx.Err() == nil; {
		stream, err := r.connect(ctx, conn)
		if err != nil {
			continue
		}
		go drain(stream)
		err = stream.Send(&pb.FromNode{Message: &pb.FromNode_Hello{Hello: &pb.Hello{Software: "rogue", Report: hello}}})
		for ; err == nil && ctx.Err() == nil; i++ {
			err = stream.Send(&pb.FromNode{Message: &pb.FromNode_Report{Report: next(i)}})
		}
	}
}

// drain reads until the replica ends the stream.
func drain(stream pb.Control_ConnectClient) {
	for {
		if _, err := stream.Recv(); err != nil {
			return
		}
	}
}

// podToken returns a token that the API server issued for a Pod, as its kubelet would mount it.
func (l *lab) podToken(pod *corev1.Pod) string {
	l.Helper()
	seconds := int64(time.Hour / time.Second)
	answer, err := l.client.CoreV1().ServiceAccounts(system).CreateToken(l.Context(), announcerAccount, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			Audiences: []string{announcerAudience}, ExpirationSeconds: &seconds,
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
		},
	}, metav1.CreateOptions{})
	require.NoError(l, err)
	return answer.Status.Token
}

// announcerPod returns the Pod of a node's announcer.
func (l *lab) announcerPod(node string) *corev1.Pod {
	l.Helper()
	pods, err := l.client.CoreV1().Pods(system).List(l.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	require.NoError(l, err)
	for i := range pods.Items {
		if pods.Items[i].Spec.ServiceAccountName == announcerAccount {
			return &pods.Items[i]
		}
	}
	require.Fail(l, "no announcer's Pod on "+node)
	return nil
}

// forged returns a token with the shape of one of the announcer's on node, each i another one.
func forged(node string, i int) string {
	part := base64.RawURLEncoding.EncodeToString
	signature := make([]byte, 256)
	signature[0], signature[1], signature[2] = byte(i>>16), byte(i>>8), byte(i)
	claims := fmt.Sprintf(`{"sub":"system:serviceaccount:%s:%s","aud":[%q],"exp":%d,"kubernetes.io":{"namespace":%q,"node":{"name":%q},"pod":{"name":"x","uid":"x"}}}`,
		system, announcerAccount, announcerAudience, time.Now().Add(time.Hour).Unix(), system, node)
	return part([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + part([]byte(claims)) + "." + part(signature)
}
