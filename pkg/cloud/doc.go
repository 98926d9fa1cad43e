// Package cloud is the cloud provider "baremetal": the seam between Kubernetes and the
// pure core in pkg/loadbalancer.
//
// One Service goes one way. Objects become values (service.go, node.go, endpoints.go),
// the values go into the core under the one mutex (core.go), the publish loop turns what
// the core decided into plans for the announcers (publish.go), what the announcers say
// comes back as an input (observer.go), and the controller writes addresses, conditions
// and Events (controller.go, status.go). The node that owns each address is written down in
// ownerhistory.go, and told by movebatch.go and metrics.go without a write to any Service. The
// stock service controller calls in through loadbalancer.go.
//
// Beside that, and only where the cloud-config asks for it, the stock
// cloud-node-controller asks instances.go what to initialise a node with.
package cloud
