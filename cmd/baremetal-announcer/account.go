package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// accountUID returns the UID of the ServiceAccount that the token in the file is for, or "" if
// the token names none. It is the one thing in a Pod that differs from cluster to cluster,
// stays the same for as long as the announcer is installed, and is there without the API
// server. The token is not verified: a process that could replace the file could replace the plan.
func accountUID(tokenFile string) (string, error) {
	content, err := os.ReadFile(tokenFile)
	if err != nil {
		return "", err
	}
	// A token is three parts in base64url, of which the second has the claims (RFC 7519).
	parts := strings.Split(strings.TrimSpace(string(content)), ".")
	if len(parts) != 3 {
		return "", fmt.Errorf("%s: %w", tokenFile, errors.New("it is no token"))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", fmt.Errorf("%s: %w", tokenFile, err)
	}
	var claims struct {
		Kubernetes struct {
			ServiceAccount struct {
				UID string `json:"uid"`
			} `json:"serviceaccount"`
		} `json:"kubernetes.io"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return "", fmt.Errorf("%s: %w", tokenFile, err)
	}
	return claims.Kubernetes.ServiceAccount.UID, nil
}
