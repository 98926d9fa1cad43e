// Package migrate turns the configuration of other load balancers into a cloud-config: MetalLB,
// OpenELB, kube-vip, PureLB and Cilium.
//
// It is pure. Bytes go in: YAML documents or JSON, with the objects of the other product and, if
// wanted, the Services. Out come the cloud-config, what is lost with the reason, the annotations
// that Services need, and the steps of the change-over.
//
// Reading is as strict as that of the cloud-config. What is not understood is an error with
// document and line, and then there is no cloud-config. What is understood and cannot be said here
// is a loss. The cloud-config never has an address that the source does not have. Where a
// rule about the Services of a pool cannot be said, the pool gets a narrower one, or is given out on
// request only. Package cloudconfig checks the text before it is returned.
package migrate
