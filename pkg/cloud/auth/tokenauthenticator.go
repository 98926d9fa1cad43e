package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"baremetal.cloud/ccm/pkg/announcer/control"
	"baremetal.cloud/ccm/pkg/reason"
)

var _ control.Authenticator = (*Authenticator)(nil)

// Keys of what the API server adds to the user of a token that is bound to a Pod
// (KEP-4193).
const (
	extraPodName  = "authentication.kubernetes.io/pod-name"
	extraPodUID   = "authentication.kubernetes.io/pod-uid"
	extraNodeName = "authentication.kubernetes.io/node-name"
)

const (
	// trustFor is how long an accepted token is not reviewed again for a new stream, at
	// most: after that the token of a deleted Pod is no longer accepted. A stream that
	// stands is reviewed without regard to it.
	trustFor = 4 * time.Minute
	// trustWithoutExpiry is the same for a token that does not say when it expires.
	trustWithoutExpiry = time.Minute
	// reviewsAtOnce bounds the questions asked of the API server at the same time for callers
	// that come from an address of the Node that they name, and strangersAtOnce for others.
	reviewsAtOnce   = 16
	strangersAtOnce = 4
	// tokensKnown bounds the accepted tokens that are remembered.
	tokensKnown = 16384
)

// AuthenticatorOptions are what an Authenticator needs.
type AuthenticatorOptions struct {
	// Client asks for token reviews, Pods and Nodes; it must not be behind the leader's fence.
	Client kubernetes.Interface
	// Nodes decides which budget counts, and nothing else.
	Nodes control.Nodes
	// Namespace and ServiceAccount are the announcers'.
	Namespace, ServiceAccount string
	// Audience is what a token must have been issued for.
	Audience string
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
}

// Authenticator is a control.Authenticator that asks the API server.
type Authenticator struct {
	options AuthenticatorOptions
	user    string
	known   *cache
	budget  *budget
	// nodesAsking and strangersAsking are held while the API server is asked.
	nodesAsking, strangersAsking chan struct{}
}

// reviewed is what the API server says of an accepted token.
type reviewed struct {
	node       string
	podUID     string
	podCreated time.Time
	addresses  []netip.Addr // the Node's
	at         time.Time    // when it was said
}

// NewAuthenticator returns an Authenticator.
func NewAuthenticator(options AuthenticatorOptions) *Authenticator {
	if options.Now == nil {
		options.Now = time.Now
	}
	return &Authenticator{
		options: options,
		user:    "system:serviceaccount:" + options.Namespace + ":" + options.ServiceAccount,
		known:   newCache(tokensKnown),
		budget:  newBudget(),

		nodesAsking:     make(chan struct{}, reviewsAtOnce),
		strangersAsking: make(chan struct{}, strangersAtOnce),
	}
}

// Authenticate implements control.Authenticator. The token must be one of the announcers'
// ServiceAccount, issued for our audience and bound to a living Pod on node, and remote
// must be an address of that Node. A token is reviewed once in a while; the address is held
// against the Node each time. Errors other than a *control.DeniedError mean that there is
// no answer now.
func (a *Authenticator) Authenticate(ctx context.Context, token, node string, remote netip.Addr) (control.Identity, error) {
	remote = remote.Unmap().WithZone("")
	now := a.options.Now()
	found, ok := a.known.getReview(token, now)
	if ok && found.node == node && slices.Contains(found.addresses, remote) {
		return found.asIdentity(), nil
	}
	said, err := a.precheckToken(token, node, now)
	if err != nil {
		return control.Identity{}, err
	}
	payer := a.payerOf(node, remote)
	if !a.budget.takeQuestion(payer, now) {
		return control.Identity{}, fmt.Errorf("%w: too many tokens from %s were refused", control.ErrBusy, remote)
	}
	if !ok {
		found, err = a.askAPIServer(ctx, token, node, remote)
	} else {
		found.addresses, err = a.askAddress(ctx, node, remote)
	}
	if err == nil || isUnanswered(ctx, err) {
		a.budget.refundQuestion(payer)
	}
	if err != nil {
		return control.Identity{}, err
	}
	if !ok {
		a.known.putReview(token, found, now, trustUntil(said, now))
	}
	return found.asIdentity(), nil
}

// payerOf returns the account that a question to the API server is charged to.
func (a *Authenticator) payerOf(node string, remote netip.Addr) payer {
	if a.options.Nodes.Owns(node, remote) {
		return payer{node: node}
	}
	return payer{source: remote}
}

// isUnanswered reports whether err is for want of an API server's answer. What it refuses to
// answer counts as asked, and so does what a caller did not wait for: it could ask again at
// once, for ever.
func isUnanswered(ctx context.Context, err error) bool {
	if _, denied := errors.AsType[*control.DeniedError](err); denied {
		return false
	}
	if answer := apierrors.APIStatus(nil); errors.As(err, &answer) {
		return false
	}
	return ctx.Err() == nil || errors.Is(context.Cause(ctx), control.ErrNoAnswer)
}

// Review implements control.Authenticator: the API server is asked, whatever is remembered.
// A denial is remembered in that the token is forgotten.
func (a *Authenticator) Review(ctx context.Context, token, node string, remote netip.Addr) (control.Identity, error) {
	remote = remote.Unmap().WithZone("")
	now := a.options.Now()
	said, err := a.precheckToken(token, node, now)
	var found reviewed
	if err == nil {
		found, err = a.askAPIServer(ctx, token, node, remote)
	}
	if err != nil {
		if _, denied := errors.AsType[*control.DeniedError](err); denied {
			a.known.dropToken(token)
		}
		return control.Identity{}, err
	}
	a.known.putReview(token, found, now, trustUntil(said, now))
	return found.asIdentity(), nil
}

// askAPIServer asks the API server which Pod and Node the token belongs to. The address comes first:
// it is the cheaper question, and the only one that a machine which is no node can cause.
func (a *Authenticator) askAPIServer(ctx context.Context, token, node string, remote netip.Addr) (reviewed, error) {
	addresses, err := a.askAddress(ctx, node, remote)
	if err != nil {
		return reviewed{}, err
	}
	leave, err := a.awaitTurn(ctx, node, remote)
	if err != nil {
		return reviewed{}, err
	}
	defer leave()
	found, err := a.reviewToken(ctx, token)
	if err != nil {
		return reviewed{}, err
	}
	if found.node != node {
		return reviewed{}, deniedError(control.CauseNodeMismatch, "the token's Pod is on node %q, the stream claims %q", clipText(found.node), clipText(node))
	}
	found.addresses, found.at = addresses, a.options.Now()
	return found, nil
}

// askAddress returns the addresses of the Node, of which remote is one.
func (a *Authenticator) askAddress(ctx context.Context, node string, remote netip.Addr) ([]netip.Addr, error) {
	leave, err := a.awaitTurn(ctx, node, remote)
	if err != nil {
		return nil, err
	}
	defer leave()
	addresses, err := a.nodeAddresses(ctx, node)
	if err == nil && !slices.Contains(addresses, remote) {
		err = deniedError(control.CauseSourceAddress, "the stream comes from %s, but Node %q has %s", remote, clipText(node), clipText(fmt.Sprint(addresses)))
	}
	return addresses, err
}

// awaitTurn waits until the API server may be asked about a caller.
func (a *Authenticator) awaitTurn(ctx context.Context, node string, remote netip.Addr) (leave func(), err error) {
	asking := a.strangersAsking
	if a.options.Nodes.Owns(node, remote) {
		asking = a.nodesAsking
	}
	select {
	case asking <- struct{}{}:
		return func() { <-asking }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other reviews: %w", ctx.Err())
	}
}

func (r reviewed) asIdentity() control.Identity {
	return control.Identity{Node: r.node, PodUID: r.podUID, PodCreated: r.podCreated, Reviewed: r.at}
}

// precheckToken refuses what the API server would refuse as well, and says why more exactly.
func (a *Authenticator) precheckToken(token, node string, now time.Time) (claims, error) {
	if token == "" {
		return claims{}, deniedError(control.CauseToken, "there is no token")
	}
	said, err := parseClaims(token)
	switch {
	case err != nil:
		return said, deniedError(control.CauseToken, "the token cannot be read: %v", err)
	case said.Subject != a.user:
		return said, deniedError(control.CauseServiceAccount, "the token is one of %q, not of %q", clipText(said.Subject), a.user)
	case !said.hasAudience(a.options.Audience):
		return said, deniedError(control.CauseAudience, "the token was not issued for the audience %q", a.options.Audience)
	case !said.expiryTime().IsZero() && !now.Before(said.expiryTime().Add(time.Minute)): // clocks differ; the review is exact
		return said, deniedError(control.CauseToken, "the token expired at %s, and it is %s at this replica",
			said.expiryTime().UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case said.Kubernetes.Namespace != a.options.Namespace || said.Kubernetes.Pod.UID == "" || said.Kubernetes.Node.Name == "":
		return said, deniedError(control.CauseToken,
			"the token names no Pod of namespace %s and node: it must be projected into the announcer's Pod, by Kubernetes 1.30 or newer", a.options.Namespace)
	case said.Kubernetes.Node.Name != node:
		return said, deniedError(control.CauseNodeMismatch, "the token's Pod is on node %q, the stream claims %q", clipText(said.Kubernetes.Node.Name), clipText(node))
	}
	return said, nil
}

// reviewToken asks the API server which Pod and Node the token belongs to.
func (a *Authenticator) reviewToken(ctx context.Context, token string) (reviewed, error) {
	answer, err := a.options.Client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{a.options.Audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return reviewed{}, fmt.Errorf("token review: %w", err)
	}
	status := answer.Status
	switch {
	case !status.Authenticated:
		return reviewed{}, deniedError(control.CauseToken, "the API server does not accept the token: %s", clipText(status.Error))
	case !slices.Contains(status.Audiences, a.options.Audience):
		return reviewed{}, deniedError(control.CauseAudience, "the API server does not know audiences, or accepts the token for %s only", clipText(fmt.Sprintf("%q", status.Audiences)))
	case status.User.Username != a.user:
		return reviewed{}, deniedError(control.CauseServiceAccount, "the token is one of %q, not of %q", clipText(status.User.Username), a.user)
	}
	return a.podOf(ctx, status.User)
}

// podOf looks up the Pod that the reviewed token is bound to.
func (a *Authenticator) podOf(ctx context.Context, user authenticationv1.UserInfo) (reviewed, error) {
	node, name, uid := extraValue(user, extraNodeName), extraValue(user, extraPodName), extraValue(user, extraPodUID)
	if node == "" || name == "" || uid == "" {
		return reviewed{}, deniedError(control.CauseToken,
			"the API server names no Pod and node for the token: it must be projected into the announcer's Pod, by Kubernetes 1.30 or newer")
	}
	pod, err := a.options.Client.CoreV1().Pods(a.options.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && string(pod.UID) != uid {
		return reviewed{}, deniedError(control.CauseToken, "the token's Pod %s is gone", name)
	}
	if err != nil {
		return reviewed{}, fmt.Errorf("read Pod %s/%s: %w", a.options.Namespace, name, err)
	}
	return reviewed{node: node, podUID: uid, podCreated: pod.CreationTimestamp.Time}, nil
}

// nodeAddresses returns the IP addresses in the Node's status.
func (a *Authenticator) nodeAddresses(ctx context.Context, name string) ([]netip.Addr, error) {
	node, err := a.options.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, deniedError(control.CauseNodeMismatch, "there is no Node %q", name)
	}
	if err != nil {
		return nil, fmt.Errorf("read Node %s: %w", name, err)
	}
	return addressesOf(node), nil
}

func extraValue(user authenticationv1.UserInfo, key string) string {
	if values := user.Extra[key]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// trustUntil returns when an accepted token has to be reviewed again.
func trustUntil(said claims, now time.Time) time.Time {
	expires := said.expiryTime()
	if expires.IsZero() {
		return now.Add(trustWithoutExpiry)
	}
	if limit := now.Add(trustFor); limit.Before(expires) {
		return limit
	}
	return expires
}

// clipText shortens text that comes from outside.
func clipText(text string) string { return reason.Quote(text) }

func deniedError(cause, format string, arguments ...any) error {
	return &control.DeniedError{Cause: cause, Message: fmt.Sprintf(format, arguments...)}
}
