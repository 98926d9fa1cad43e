package identity

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

// maxToken bounds a token. Those of the API server have about 1 KiB.
const maxToken = 16 << 10

// parseClaims reads the payload of a JWT in compact form (RFC 7515 section 7.1) without
// checking the signature.
func parseClaims(token string) (claims, error) {
	var c claims
	if len(token) > maxToken {
		return c, fmt.Errorf("it has %d bytes, more than %d", len(token), maxToken)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, errors.New("it is not a JWT")
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

func (c claims) hasAudience(name string) bool { return slices.Contains(c.Audience, name) }

// expiry returns when the token expires, or the zero time if it does not say so.
func (c claims) expiry() time.Time {
	if c.Expires == 0 {
		return time.Time{}
	}
	return time.Unix(c.Expires, 0)
}
