// Package control is the channel between the announcer of a node and the replicas of
// the cloud-controller-manager: plans go down, reports come up.
//
// The announcer dials every replica and keeps one stream to each (Client); a replica
// accepts the streams (Server). Both directions carry the whole state when a stream
// opens and differences after that, and both read from a newest-wins mailbox when they
// are ready to send: a slow peer skips intermediate states, costs the memory of the one state
// that is on its way, and makes no other peer wait.
//
// The channel transports and checks the form of what it carries. It does not decide
// whether a plan may be carried out (package plan has the fencing rule) nor which peer may
// connect (an Authenticator does).
package control
