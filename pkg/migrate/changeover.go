package migrate

import (
	"fmt"
	"strings"
)

// workloads are what runs of a product, for the steps of the change-over.
type workloads struct {
	namespace, controller, agent string
	// remark is what else has to be known.
	remark string
}

var productWorkloads = map[Product]workloads{
	MetalLB: {"metallb-system", "deployment/controller", "daemonset/speaker", ""},
	OpenELB: {"openelb-system", "deployment/openelb-controller", "daemonset/openelb-speaker", "Up to version 0.5 there is one Deployment, openelb-manager, which does both."},
	KubeVIP: {"kube-system", "deployment/kube-vip-cloud-provider", "daemonset/kube-vip-ds", "If kube-vip also holds the address of the API server, do not delete it: set svc_enable to false instead."},
	PureLB:  {"purelb", "deployment/allocator", "daemonset/lbnodeagent", ""},
	Cilium:  {"kube-system", "", "", "Do not stop Cilium. Delete its pools, policies and BGP configurations, or set enable-lb-ipam, enable-l2-announcements and enable-bgp-control-plane to false."},
}

// writePlan writes the steps of the change-over. No command contains a password.
func writePlan(c *converter) {
	add := func(title string, commands ...string) {
		c.result.Plan = append(c.result.Plan, Step{title, commands})
	}
	if n := len(c.losses); n > 0 {
		add(fmt.Sprintf("Decide on what is lost (%d), and edit the cloud-config accordingly.", n))
	}
	add("Copy deploy/example of our repository, and write the cloud-config into the copy, as cloud-config.yaml. Write the images into its kustomization.yaml. "+
		"All commands are run in the copy.",
		"kubectl baremetal validate cloud-config.yaml")
	if len(c.passwords) > 0 {
		planPasswords(c, add)
	}
	if len(c.result.Annotations) > 0 {
		add("Annotate the Services. The other product does not look at these annotations.", "sh annotations.sh")
	}
	w := productWorkloads[c.product]
	stop := func(what string) string { return "kubectl -n " + w.namespace + " scale " + what + " --replicas=0" }
	if w.controller != "" {
		add("Stop the other product's controller, so that it gives out and takes back no addresses. Its agents go on announcing.", stop(w.controller))
	}
	planAgents(c, add, w)
	if w.remark != "" {
		add(w.remark)
	}
	add("Look whether each Service has kept its address and is announced, and whether each address answers.",
		"kubectl get services --all-namespaces --field-selector spec.type=LoadBalancer",
		"kubectl get services --all-namespaces -o jsonpath='{range .items[*]}{.metadata.namespace}/{.metadata.name} {.status.conditions[?(@.type==\"baremetal.cloud/Announced\")].reason}{\"\\n\"}{end}'")
	add("Remove what is left of the other product only then. To go back before that, delete our workloads and start its own again.")
}

// planPasswords has the passwords of the peers put into the Secret.
func planPasswords(c *converter, add func(string, ...string)) {
	var commands []string
	var literals []string
	for _, p := range c.passwords {
		if p.secret == "" {
			commands = append(commands, "# write the password of "+p.file+" (in the source: "+p.place.String()+") into the file "+p.file+", without a newline")
		} else if isSecretName(p.secret) && isSecretName(p.namespace) {
			commands = append(commands, "kubectl -n "+p.namespace+" get secret "+p.secret+" -o jsonpath='{.data.password}' | base64 -d >"+p.file)
		}
		literals = append(literals, "--from-file="+p.file)
	}
	commands = append(commands, "kubectl create namespace baremetal-ccm", "kubectl -n baremetal-ccm create secret generic baremetal-bgp-passwords "+strings.Join(literals, " "))
	add("Put the passwords of the BGP peers into a Secret.", commands...)
}

// planAgents has our announcers start and the other agents stop.
func planAgents(c *converter, add func(string, ...string), w workloads) {
	var l2, bgp bool
	for _, p := range c.pools {
		bgp = bgp || len(p.BGP) > 0
		l2 = l2 || len(p.L2) > 0 || len(p.BGP) == 0
	}
	start := []string{"kubectl apply -k .", "kubectl -n baremetal-ccm rollout status deployment/baremetal-ccm", "kubectl -n baremetal-ccm rollout status daemonset/baremetal-announcer"}
	stop := "kubectl -n " + w.namespace + " delete " + w.agent
	if w.agent == "" {
		add("Start ours.", start...)
		return
	}
	if l2 && !bgp {
		add("Start ours, and stop the other product's agents as soon as ours are ready. In between two nodes may answer for an address; each of them serves it.",
			append(start, stop)...)
		return
	}
	label := "baremetal-migration"
	patch := `'{"spec":{"template":{"spec":{"nodeSelector":{"` + label + `":"pending"}}}}}'`
	add("Start ours. A router takes one session from a node: ours come up as the other agents stop.", start...)
	add("Bind the other product's agents to a label that all nodes have. They restart, one after the other.",
		"kubectl label nodes --all "+label+"=pending", "kubectl -n "+w.namespace+" patch "+w.agent+" -p "+patch, "kubectl -n "+w.namespace+" rollout status "+w.agent)
	add("Stop them node by node: take the label from a node, and wait until the router has a session to our announcer there. "+
		"An address with one next hop is away in between.",
		"kubectl label node NODE "+label+"-")
	add("Remove the agents when no node has the label.", stop)
}
