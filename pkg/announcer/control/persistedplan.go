package control

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// PersistedPlan is a plan as an announcer keeps it over its own end.
type PersistedPlan struct {
	// Node is the name of the Node that the plan is for.
	Node string
	// Account is the UID of the ServiceAccount that the announcer ran as, or "" if its
	// token named none.
	Account string
	Plan    plan.NodePlan
}

// EncodePersistedPlan returns k in the form of the control channel, which newer and older builds
// read too.
func EncodePersistedPlan(k PersistedPlan) ([]byte, error) {
	return proto.Marshal(&pb.PersistedPlan{Node: k.Node, Account: k.Account, Plan: planSnapshot(k.Plan), Authority: k.Plan.Voucher.Authority})
}

// DecodePersistedPlan returns what EncodePersistedPlan was given. The plan is checked as one that a replica
// sends is.
func DecodePersistedPlan(data []byte) (PersistedPlan, error) {
	var message pb.PersistedPlan
	if err := proto.Unmarshal(data, &message); err != nil {
		return PersistedPlan{}, err
	}
	if err := checkName("node", message.GetNode()); err != nil {
		return PersistedPlan{}, err
	}
	if err := checkText("account", message.GetAccount(), maxName); err != nil {
		return PersistedPlan{}, err
	}
	if !message.GetPlan().GetSnapshot() {
		return PersistedPlan{}, errors.New("plan: not a whole one")
	}
	if err := checkText("authority", message.GetAuthority(), maxName); err != nil {
		return PersistedPlan{}, err
	}
	set, err := applyPlan(plan.NodePlan{}, message.GetPlan())
	if err != nil {
		return PersistedPlan{}, err
	}
	if err := plan.Accept(plan.NodePlan{}, set); err != nil {
		return PersistedPlan{}, fmt.Errorf("plan: %w", err)
	}
	set.Voucher.Authority = message.GetAuthority()
	return PersistedPlan{Node: message.GetNode(), Account: message.GetAccount(), Plan: set}, nil
}
