package planfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"baremetal.cloud/ccm/pkg/announcer/control"
)

// The file is magic, the version, the length of the payload, the payload, which is that of
// control.EncodePersistedPlan, and the SHA-256 of all that. Numbers are in network order.
const (
	magic         = "BMPLAN\r\n"
	version       = 1
	versionOffset = len(magic)
	lengthOffset  = versionOffset + 4
	headerSize    = lengthOffset + 4

	// maxPayload is far above a plan of as many addresses as a node may have.
	maxPayload = 32 << 20
	maxFile    = headerSize + maxPayload + sha256.Size
)

// ErrDamaged means that a file is cut, longer than it says, or has changed since it was
// written.
var ErrDamaged = errors.New("the file is damaged")

// VersionError means that a file has a format that this build does not know.
type VersionError struct{ Got uint32 }

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("the file has version %d; this build reads version %d", e.Got, version)
}

// Encode returns the content of a file.
func Encode(k control.PersistedPlan) ([]byte, error) {
	payload, err := control.EncodePersistedPlan(k)
	if err != nil {
		return nil, err
	}
	if len(payload) > maxPayload {
		return nil, fmt.Errorf("plan of %d bytes; the limit is %d", len(payload), maxPayload)
	}
	data := make([]byte, 0, headerSize+len(payload)+sha256.Size)
	data = append(data, magic...)
	data = binary.BigEndian.AppendUint32(data, version)
	data = binary.BigEndian.AppendUint32(data, uint32(len(payload))) //nolint:gosec // bounded above
	data = append(data, payload...)
	sum := sha256.Sum256(data)
	return append(data, sum[:]...), nil
}

// Decode returns what Encode was given. The error is ErrDamaged, a *VersionError or says
// what is wrong with the plan.
func Decode(data []byte) (control.PersistedPlan, error) {
	if len(data) < headerSize+sha256.Size || !bytes.HasPrefix(data, []byte(magic)) {
		return control.PersistedPlan{}, ErrDamaged
	}
	// Of another version only the beginning is known.
	if got := binary.BigEndian.Uint32(data[versionOffset:]); got != version {
		return control.PersistedPlan{}, &VersionError{got}
	}
	end := len(data) - sha256.Size
	sum := sha256.Sum256(data[:end])
	if !bytes.Equal(sum[:], data[end:]) || uint64(binary.BigEndian.Uint32(data[lengthOffset:])) != uint64(end-headerSize) {
		return control.PersistedPlan{}, ErrDamaged
	}
	return control.DecodePersistedPlan(data[headerSize:end])
}
