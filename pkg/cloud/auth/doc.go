// Package auth is how the CCM and the announcers know each other.
//
// The CertManager has the CCM's serving certificate. Whichever replica comes first makes a
// certificate authority and a certificate for the DNS name ServerName and keeps them in a
// Secret that the manifests ship empty; the authority's certificate goes to a ConfigMap
// that announcers mount. Every replica, standby or leader, follows the Secret, renews what
// is old, and takes the next step where the authority is being replaced (rotation.go).
//
// The Authenticator asks the API server which Pod and Node the token of an announcer belongs
// to, and holds the answer against what the stream claims. Neither acts as the leader: both need
// a client that is not behind the leader's fence.
package auth

// ServerName is the DNS name in the CCM's certificate. Announcers expect it whatever
// address they dial.
const ServerName = "baremetal-ccm"
