package control

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
)

// Kept is a plan as an announcer keeps it over its own end.
type Kept struct {
	// Node is the name of the Node that the plan is for.
	Node string
	// Account is the UID of the ServiceAccount that the announcer ran as, or "" if its
	// token named none.
	Account string
	Plan    announcement.Set
}

// EncodeKept returns k in the form of the control channel, which newer and older builds
// read too.
func EncodeKept(k Kept) ([]byte, error) {
	return proto.Marshal(&pb.Kept{Node: k.Node, Account: k.Account, Plan: planSnapshot(k.Plan), Authority: k.Plan.Voucher.Authority})
}

// DecodeKept returns what EncodeKept was given. The plan is checked as one that a replica
// sends is.
func DecodeKept(data []byte) (Kept, error) {
	var message pb.Kept
	if err := proto.Unmarshal(data, &message); err != nil {
		return Kept{}, err
	}
	if err := checkName("node", message.GetNode()); err != nil {
		return Kept{}, err
	}
	if err := checkText("account", message.GetAccount(), maxName); err != nil {
		return Kept{}, err
	}
	if !message.GetPlan().GetSnapshot() {
		return Kept{}, errors.New("plan: not a whole one")
	}
	if err := checkText("authority", message.GetAuthority(), maxName); err != nil {
		return Kept{}, err
	}
	set, err := applyPlan(announcement.Set{}, message.GetPlan())
	if err != nil {
		return Kept{}, err
	}
	if err := announcement.Accept(announcement.Set{}, set); err != nil {
		return Kept{}, fmt.Errorf("plan: %w", err)
	}
	set.Voucher.Authority = message.GetAuthority()
	return Kept{Node: message.GetNode(), Account: message.GetAccount(), Plan: set}, nil
}
