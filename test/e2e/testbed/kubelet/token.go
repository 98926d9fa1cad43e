package kubelet

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type tokenRef struct {
	audience string
	// seconds is the life that was asked for.
	seconds int64
}

type token struct {
	data []byte
	// renew is when the next one is due.
	renew time.Time
}

// token returns a ServiceAccount token bound to the Pod; it asks for a new one only
// when that is due. While nobody gives a new one, the old one is better than none.
func (v *volumes) token(ctx context.Context, ref tokenRef) ([]byte, error) {
	old := v.tokens[ref]
	if old != nil && time.Now().Before(old.renew) {
		return old.data, nil
	}
	fresh, err := v.requestToken(ctx, ref)
	if err != nil && old != nil {
		old.renew = time.Now().Add(10 * time.Second)
		v.pod.agent.Logger.Warn("token not renewed", "pod", v.pod.key(), "err", err)
		return old.data, nil
	}
	if err != nil {
		return nil, err
	}
	v.tokens[ref] = fresh
	return fresh.data, nil
}

func (v *volumes) requestToken(ctx context.Context, ref tokenRef) (*token, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	object := v.pod.object()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &ref.seconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: object.Name, UID: object.UID,
		},
	}}
	if ref.audience != "" {
		request.Spec.Audiences = []string{ref.audience}
	}
	now := time.Now()
	answer, err := v.pod.agent.Client.CoreV1().ServiceAccounts(object.Namespace).
		CreateToken(ctx, object.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("token for %s: %w", object.Spec.ServiceAccountName, err)
	}
	life := answer.Status.ExpirationTimestamp.Sub(now)
	return &token{data: []byte(answer.Status.Token), renew: now.Add(life * 8 / 10)}, nil
}
