package auth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// claims are what a token says of itself (RFC 7519 section 4.1). Until the API server
// has reviewed the token they are good only for refusing it.
type claims struct {
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Expires  int64    `json:"exp"` // seconds since 1970, UTC; 0 where it does not expire
	// Kubernetes is what the API server says of the Pod that the token is for (KEP-4193).
	Kubernetes struct {
		Namespace string `json:"namespace"`
		Node      struct {
			Name string `json:"name"`
		} `json:"node"`
		Pod struct {
			UID string `json:"uid"`
		} `json:"pod"`
	} `json:"kubernetes.io"`
}

// audience is one string or a list of them.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if err := json.Unmarshal(data, &one); err == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

const (
	// maxToken bounds a token. Those of the API server have about 1 KiB.
	maxToken = 8 << 10
	// minSignature is the length of the shortest signature of an API server, ES256's.
	minSignature = 64
)

// parseClaims reads the payload of a JWT in compact form (RFC 7515 section 7.1). The
// signature must be one that an API server could have made: with a key pair, and of its
// length. It is not checked.
func parseClaims(token string) (claims, error) {
	var c claims
	if len(token) > maxToken {
		return c, fmt.Errorf("it has %d bytes, more than %d", len(token), maxToken)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, errors.New("it is not a JWT")
	}
	if err := checkShape(parts[0], parts[2]); err != nil {
		return c, err
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return c, errors.New("its payload is not base64url")
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return c, errors.New("its payload is not a JWT's")
	}
	return c, nil
}

// checkShape refuses tokens without a signature, or with one by a shared secret (RFC 7518
// section 3.1): no API server accepts them.
func checkShape(header, signature string) error {
	var h struct {
		Algorithm string `json:"alg"`
	}
	text, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil || json.Unmarshal(text, &h) != nil {
		return errors.New("its header is not a JWT's")
	}
	switch h.Algorithm {
	case "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA":
	default:
		return errors.New("it is not signed by a key pair")
	}
	if raw, err := base64.RawURLEncoding.DecodeString(signature); err != nil || len(raw) < minSignature {
		return errors.New("it has no signature of an API server")
	}
	return nil
}

func (c claims) hasAudience(name string) bool { return slices.Contains(c.Audience, name) }

// expiryTime returns when the token expires, or the zero time if it does not say so.
func (c claims) expiryTime() time.Time {
	if c.Expires == 0 {
		return time.Time{}
	}
	return time.Unix(c.Expires, 0)
}
