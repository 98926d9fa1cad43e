package testbed

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// Names of the images of the programs under test, see deploy/.
const (
	ccmImage       = "baremetal-ccm"
	announcerImage = "baremetal-announcer"
	webImage       = "testbed/web"
)

// env returns the testbed as KEY=value lines for a shell. What does not run has an
// empty value.
func (s *supervisor) env() []byte {
	var b strings.Builder
	set := func(key string, value any) { fmt.Fprintf(&b, "%s=%s\n", key, quote(fmt.Sprint(value))) }
	l := s.layout
	set("KUBECONFIG", s.hostKubeconfig())
	set("KUBECTL", filepath.Join(s.bin(), "kubectl"))
	set("CLIENT_NETNS", l.Client.NetNS)
	set("LAN_NETNS", l.LAN)
	set("ROUTER_FRR_NETNS", l.FRR.NetNS)
	set("ROUTER_BIRD_NETNS", l.BIRD.NetNS)
	if s.Routers {
		set("ROUTER_FRR_VTYSH", "ip netns exec "+l.FRR.NetNS+" vtysh --vty_socket "+routerDir(l.ID, "frr"))
		set("ROUTER_BIRD_BIRDC", "ip netns exec "+l.BIRD.NetNS+" birdc -s "+filepath.Join(routerDir(l.ID, "bird"), "ctl"))
	}
	set("POOL_V4", l.PoolV4)
	set("POOL_V6", l.PoolV6)
	set("LEASE", "baremetal-ccm/baremetal-ccm")
	var ccm []int
	for _, n := range s.nodes {
		name := n.agent.Node.Name
		set("NODE_NETNS_"+name, n.agent.Node.NetNS)
		set("NODE_LINK_"+name, name)
		set("ANNOUNCER_PID_"+name, join(n.agent.PIDs(announcerImage)))
		set("KUBE_PROXY_PID_"+name, pid(n.proxy.State().PID))
		ccm = append(ccm, n.agent.PIDs(ccmImage)...)
	}
	set("CCM_PIDS", join(ccm))
	set("ETCD_PID", pid(s.etcd.State().PID))
	set("APISERVER_PID", pid(s.apiserver.State().PID))
	set("KCM_PID", pid(s.kcm.State().PID))
	return []byte(b.String())
}

func pid(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func join(pids []int) string {
	words := make([]string, len(pids))
	for i, p := range pids {
		words[i] = pid(p)
	}
	return strings.Join(words, " ")
}

// quote protects a value from the shell where that is needed.
func quote(value string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:,@%+=", r)
	}
	if strings.IndexFunc(value, func(r rune) bool { return !plain(r) }) < 0 {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}
