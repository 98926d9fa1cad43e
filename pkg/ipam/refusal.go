package ipam

import (
	"fmt"

	"baremetal.cloud/ccm/pkg/reason"
)

// Refusal is why a request was not granted. A refused request releases nothing.
type Refusal struct {
	// Reason is the typed cause.
	Reason reason.Reason
	// Message is one sentence for the Service's owner. It never names a Service of
	// another namespace.
	Message string
	// Holder is the Service that holds the address that was asked for, where that is the
	// cause.
	Holder Holder
}

// Error returns the message.
func (r *Refusal) Error() string { return r.Message }

func refusalOf(why reason.Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: why, Message: reason.Message(fmt.Sprintf(format, args...), "")}
}

// describeHolder names holder to a Service in namespace, or says only that it is elsewhere.
func describeHolder(holder Holder, namespace string) string {
	if holder.Namespace != namespace {
		return "a Service of another namespace"
	}
	return "Service " + holder.String()
}
