package auth

import (
	"bytes"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The authority is replaced in three steps, each of them one write of the Secret, so that
// any replica can take the next one, whatever became of the one that took the last:
//
//	begin    the next authority is made; the ConfigMap tells announcers to trust it as well
//	switch   they have had time to read that: the next one signs, the one before is kept
//	finish   every replica has had time to serve its certificate: the one before goes
//
// Where a rotation stands is what the Secret holds, and since when announcers can know of
// it is kept in the ConfigMap, written together with what they read.

// Keys of the Secret during a rotation.
const (
	keyNextCA    = "next-ca.crt"
	keyNextCAKey = "next-ca.key"
	keyOldCA     = "old-ca.crt"
)

const (
	// rotateAnnotation on the Secret, with whatever value, asks for a new authority now.
	// It is taken away when the rotation begins.
	rotateAnnotation = "baremetal.cloud/rotate-ca"
	// sinceAnnotation on the ConfigMap is when its authorities were published (RFC 3339).
	sinceAnnotation = "baremetal.cloud/published"
	// settle is how long announcers have to read a changed ConfigMap, which kubelet brings
	// to the Pods within about two minutes, and replicas to follow a changed Secret, which
	// they look at every minute. The rest is for clocks that differ.
	settle = 10 * time.Minute
)

// errNotOurs answers a request to rotate an authority that we cannot sign with.
var errNotOurs = fmt.Errorf("asked by the annotation %s for another authority, but the Secret has no %s: whoever made this authority has to replace it",
	rotateAnnotation, keyCAKey)

// published is what the ConfigMap tells announcers, and since when.
type published struct {
	ca    []byte
	since time.Time // zero if not known
}

// isCurrent reports whether ca is what is published, since a time that can be.
func (p published) isCurrent(ca []byte, now time.Time) bool {
	return bytes.Equal(p.ca, ca) && !p.since.IsZero() && !p.since.After(now.Add(settle))
}

// isSettled reports whether ca has been published for long enough to be read everywhere.
func (p published) isSettled(ca []byte, now time.Time) bool {
	return p.isCurrent(ca, now) && !now.Before(p.since.Add(settle))
}

// stepSecret changes the Secret by the next step that is due at now, and says what was done: at
// most one thing at a time. It returns what the Secret holds if there is nothing to do.
func stepSecret(secret *corev1.Secret, told published, now time.Time) (found *material, did string, err error) {
	found, change, err := validate(secret.Data, now)
	if err != nil {
		return nil, "", err
	}
	if change != nil {
		secret.Data = change
		return found, "made a serving certificate for announcers", nil
	}
	_, asked := secret.Annotations[rotateAnnotation]
	if !isOurs(secret.Data) {
		if asked {
			found.refused = errNotOurs
		}
		return found, "", nil
	}
	change, did, err = stepRotation(secret.Data, found, asked, told, now)
	if err != nil || change == nil {
		return found, "", err
	}
	if len(change[keyNextCA]) > 0 {
		delete(secret.Annotations, rotateAnnotation)
	}
	secret.Data = change
	return found, did, nil
}

// stepRotation takes the next step of a rotation, or begins one where the authority has a third
// of its life left or asked is set. It returns the data that the Secret should hold then
// and, for the log, what was done; nil while there is nothing to do. found is what the
// data holds.
func stepRotation(data map[string][]byte, found *material, asked bool, told published, now time.Time) (map[string][]byte, string, error) {
	switch {
	case len(data[keyNextCA]) > 0 || len(data[keyNextCAKey]) > 0:
		next, err := parseAuthority(data[keyNextCA], data[keyNextCAKey])
		if err != nil {
			return nil, "", fmt.Errorf("%s and %s: %w (remove both to have them made anew)", keyNextCA, keyNextCAKey, err)
		}
		// There is nothing to wait for once no announcer trusts the authority.
		over := now.After(found.authority.NotAfter) && told.isCurrent(found.ca, now)
		if !over && !told.isSettled(found.ca, now) {
			return nil, "", nil
		}
		return switchTo(next, data, now)
	case len(data[keyOldCA]) > 0:
		if _, err := firstCertificate(data, keyOldCA); err != nil {
			return nil, "", err
		}
		if signed := found.pair.Leaf.NotBefore.Add(backdate); now.Before(signed.Add(settle)) {
			return nil, "", nil
		}
		changed := maps.Clone(data)
		delete(changed, keyOldCA)
		return changed, "ended the rotation: the authority before is not trusted any more", nil
	case asked || isDue(found.authority, now):
		return beginRotation(data, now)
	}
	return nil, "", nil
}

func beginRotation(data map[string][]byte, now time.Time) (map[string][]byte, string, error) {
	next, err := newAuthority(now)
	if err != nil {
		return nil, "", err
	}
	changed := maps.Clone(data)
	changed[keyNextCA] = encodeCertificate(next.certificate)
	if changed[keyNextCAKey], err = encodeKey(next.key); err != nil {
		return nil, "", err
	}
	return changed, "began to rotate the authority: made the next one", nil
}

func switchTo(next *authority, data map[string][]byte, now time.Time) (map[string][]byte, string, error) {
	changed := withoutRotation(data)
	changed[keyOldCA] = data[keyCA]
	changed[keyCA], changed[keyCAKey] = data[keyNextCA], data[keyNextCAKey]
	var err error
	if changed[keyCertificate], changed[keyPrivateKey], err = next.newLeaf(now); err != nil {
		return nil, "", err
	}
	return changed, "switched to the next authority: it signed the serving certificate", nil
}

// withoutRotation returns a copy of data without what only a rotation needs.
func withoutRotation(data map[string][]byte) map[string][]byte {
	rest := maps.Clone(data)
	for _, key := range []string{keyNextCA, keyNextCAKey, keyOldCA} {
		delete(rest, key)
	}
	return rest
}

// trustBundle is all that announcers should trust. It is the same before and after a switch.
func trustBundle(data map[string][]byte) []byte {
	var all []byte
	for _, key := range []string{keyOldCA, keyCA, keyNextCA} {
		if part := bytes.TrimSpace(data[key]); len(part) > 0 {
			all = append(append(all, part...), '\n')
		}
	}
	return all
}
