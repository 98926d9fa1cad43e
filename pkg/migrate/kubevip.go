package migrate

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// namespaceName is the label that each namespace has, with its name.
const namespaceName = "kubernetes.io/metadata.name"

// global is what stands for all namespaces in the keys of kube-vip's ConfigMap.
const global = "global"

// convertKubeVIP reads the ConfigMap of kube-vip's cloud provider and the environment of kube-vip's
// DaemonSet or static Pod.
func convertKubeVIP(c *converter, objects []*object) {
	c.known(objects, func(string) bool { return false }, nil)
	var config, pod *object
	var env map[string]placedText
	for _, o := range objects {
		switch {
		case o.kind == "ConfigMap" && o.group() == "" && hasKubeVIPKeys(o.root.child("data")):
			if config != nil {
				c.fail(o.root.place, "leave the one that kube-vip uses", "another ConfigMap of kube-vip stands before: %s", config.root.place)
			}
			config = o
		case o.kind == "DaemonSet" || o.kind == "Pod":
			if found := kubeVIPEnv(o); found != nil {
				if pod != nil {
					c.fail(o.root.place, "leave one", "another kube-vip stands before: %s", pod.root.place)
				}
				pod, env = o, found
			}
		}
	}
	if config == nil {
		return // reported as no pools
	}
	ways := readKubeVIPWays(c, pod, env)
	kubeVIPPools(c, config.root.child("data"), ways)
	if pod == nil {
		c.note(config.root.place, "kube-vip's DaemonSet is not in the source: the pools are announced on layer 2")
	}
}

// poolPrefixes are those of the keys that give addresses.
var poolPrefixes = []string{"cidr-", "range-"}

func hasKubeVIPKeys(data mapping) bool {
	for key := range data.keys {
		if slices.ContainsFunc(poolPrefixes, func(prefix string) bool { return strings.HasPrefix(key, prefix) }) {
			return true
		}
	}
	return false
}

// kubeVIPPools makes a pool of each namespace's keys, and one of each global key.
func kubeVIPPools(c *converter, data mapping, ways kubeVIPWays) {
	own := map[string]*pool{}
	var ownNames, order []string
	for i := 0; data.node != nil && i+1 < len(data.node.Content); i += 2 {
		order = append(order, data.node.Content[i].Value)
	}
	skipEnds, _ := data.flag("skip-end-ips-in-cidr")
	globalCIDR := data.has("cidr-" + global)
	for _, key := range order {
		prefix, namespace, _ := strings.Cut(key, "-")
		if !slices.Contains(poolPrefixes, prefix+"-") || namespace == "" {
			continue
		}
		var p *pool
		if namespace == global {
			p = c.addPool(global+"-"+prefix, data.key(key))
			if prefix == "range" && globalCIDR {
				p.Priority = 1 // kube-vip's cloud provider looks at cidr-global first
				data.lose(key, "kube-vip's cloud provider gives nothing out of it as long as cidr-global is there; here it is drawn from once that is full: set disabled to prevent it")
			}
		} else if p = own[namespace]; p == nil {
			p = c.addPool(namespace, data.key(key))
			p.Namespaces = []string{namespace}
			own[namespace] = p
			ownNames = append(ownNames, namespace)
		}
		kubeVIPAddresses(c, p, data, key, skipEnds && prefix == "cidr")
		iface := data.text("interface-" + namespace)
		if len(p.ways)+len(p.adverts) == 0 {
			ways.announce(p, iface)
		}
	}
	confine(c, ownNames)
	dropEmptyPools(c)
	kubeVIPSettings(c, data, order)
}

// confine keeps Services of namespaces with a pool of their own out of the global pools.
func confine(c *converter, namespaces []string) {
	if len(namespaces) == 0 {
		return
	}
	slices.Sort(namespaces)
	for _, p := range c.pools {
		if len(p.Namespaces) == 0 {
			p.NamespaceSelectors = []outSelector{{MatchExpressions: []outExpression{{Key: namespaceName, Operator: "NotIn", Values: namespaces}}}}
		}
	}
}

// kubeVIPAddresses adds the addresses of a key, which are separated by commas.
func kubeVIPAddresses(c *converter, p *pool, data mapping, key string, skipEnds bool) {
	for _, text := range strings.Split(data.text(key), ",") {
		text = strings.TrimSpace(text)
		switch {
		case text == "":
		case strings.HasPrefix(text, "0.0.0.0") || strings.HasPrefix(text, "::/") || text == "::":
			data.lose(key, "addresses by DHCP (%s) are not possible here", text)
		default:
			before := len(p.ranges)
			c.addAddresses(p, text, data.key(key))
			if len(p.ranges) == before {
				continue
			}
			whole := p.ranges[before]
			p.trimEnds(before, false)
			if p.ranges[before] != whole && !skipEnds {
				p.ranges[before] = whole
				data.note(key, "older versions of kube-vip's cloud provider did not give out the first and last address of an IPv4 CIDR, which are in the pool here")
			}
		}
	}
	c.mergeRanges(p)
}

// dropEmptyPools leaves out pools of which all addresses were lost.
func dropEmptyPools(c *converter) {
	c.pools = slices.DeleteFunc(c.pools, func(p *pool) bool { return len(p.ranges) == 0 })
}

// kubeVIPSettings reads the keys that give no addresses.
func kubeVIPSettings(c *converter, data mapping, order []string) {
	for _, key := range order {
		value := data.text(key)
		switch {
		case slices.ContainsFunc(poolPrefixes, func(prefix string) bool { return strings.HasPrefix(key, prefix) }), key == "skip-end-ips-in-cidr":
		case key == "search-order":
			if value == "desc" {
				data.lose(key, "addresses are given out in ascending order here")
			}
		case strings.HasPrefix(key, "allow-share-"):
			if value != "false" {
				data.lose(key, "Services share an address here if they name the same key: annotate each of them with %s", annotationSharing)
			}
		case strings.HasPrefix(key, "interface-"):
			checkInterfaceUsed(c, data, key)
		default:
			data.fail(key, "known are cidr-, range-, interface- and allow-share- with a namespace or global behind them, search-order and skip-end-ips-in-cidr", "unknown key")
		}
	}
}

// checkInterfaceUsed records an interface of a namespace that has no pool of its own.
func checkInterfaceUsed(c *converter, data mapping, key string) {
	namespace := strings.TrimPrefix(key, "interface-")
	if !data.has("cidr-"+namespace) && !data.has("range-"+namespace) {
		data.lose(key, "the interface is said by l2 of a pool here, and the namespace has no pool of its own")
	}
}

// kubeVIPEnv returns the environment of kube-vip's container in an object; nil if it has none.
func kubeVIPEnv(o *object) map[string]placedText {
	pod := o.spec()
	if o.kind == "DaemonSet" {
		pod = pod.child("template").child("spec")
	}
	for _, container := range pod.children("containers") {
		if !strings.Contains(container.text("image"), "kube-vip") || strings.Contains(container.text("image"), "cloud-provider") {
			continue
		}
		for i, n := range slices.Concat(container.list("command"), container.list("args")) {
			if strings.HasPrefix(n.Value, "--") {
				container.lose("args", "flags of kube-vip are not read (%s, the %d. word): write them as environment", strings.SplitN(n.Value, "=", 2)[0], i+1)
			}
		}
		env := map[string]placedText{}
		for _, e := range container.children("env") {
			if n := e.value("value"); n != nil && n.Kind == yaml.ScalarNode {
				env[e.text("name")] = placedText{n.Value, e.key("value")}
			}
		}
		return env
	}
	return nil
}
