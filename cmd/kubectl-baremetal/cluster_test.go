package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// apiServer answers discovery and lists of the objects by path, as an API server does. Lists of
// Services come in two pages, and no namespace has anything of its own.
type apiServer struct {
	mu sync.Mutex
	// objects are guarded by mu, and what is in them.
	objects map[string]any
}

// change has f change what is served.
func (s *apiServer) change(f func(objects map[string]any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.objects)
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := r.URL.Path
	if token := r.URL.Query().Get("continue"); token != "" {
		path += "?" + token
	}
	w.Header().Set("Content-Type", "application/json")
	answer, ok := s.objects[path]
	if strings.Contains(path, "/namespaces/") && !strings.Contains(path, "/configmaps/") {
		answer, ok = object{"kind": "List", "apiVersion": "v1", "items": []object{}}, true
	}
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		answer = object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

type object = map[string]any

func resources(version string, names ...string) object {
	var list []object
	for _, name := range names { // "Kind/plural"
		kind, plural, _ := strings.Cut(name, "/")
		list = append(list, object{"name": plural, "singularName": strings.ToLower(kind), "namespaced": true, "kind": kind, "verbs": []string{"get", "list"}})
	}
	return object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": list}
}

func group(name string, versions ...string) object {
	var all []object
	for _, v := range versions {
		all = append(all, object{"groupVersion": name + "/" + v, "version": v})
	}
	return object{"name": name, "versions": all, "preferredVersion": all[0]}
}

func service(name string, annotations object) object {
	return object{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": name, "namespace": "web", "annotations": annotations,
		"managedFields": []object{{"manager": "x"}}}, "spec": object{"type": "LoadBalancer"}}
}

// newAPIServer serves a cluster with MetalLB, and returns the path of its kubeconfig.
func newAPIServer(t *testing.T) (*apiServer, string) {
	t.Helper()
	s := &apiServer{objects: map[string]any{
		"/api":                     object{"kind": "APIVersions", "versions": []string{"v1"}},
		"/apis":                    object{"kind": "APIGroupList", "apiVersion": "v1", "groups": []object{group("metallb.io", "v1beta2", "v1beta1")}},
		"/api/v1":                  resources("v1", "Service/services", "ConfigMap/configmaps"),
		"/apis/metallb.io/v1beta1": resources("metallb.io/v1beta1", "IPAddressPool/ipaddresspools", "L2Advertisement/l2advertisements", "BGPPeer/bgppeers"),
		"/apis/metallb.io/v1beta2": resources("metallb.io/v1beta2", "BGPPeer/bgppeers"),
		"/apis/metallb.io/v1beta1/ipaddresspools": object{"kind": "IPAddressPoolList", "apiVersion": "metallb.io/v1beta1", "items": []object{
			{"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": object{"name": "a", "namespace": "metallb-system"}, "spec": object{"addresses": []string{"192.0.2.0/28"}}}}},
		"/apis/metallb.io/v1beta1/l2advertisements": object{"kind": "L2AdvertisementList", "apiVersion": "metallb.io/v1beta1", "items": []object{
			{"apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement", "metadata": object{"name": "a", "namespace": "metallb-system"}, "spec": object{}}}},
		"/apis/metallb.io/v1beta2/bgppeers": object{"kind": "BGPPeerList", "apiVersion": "metallb.io/v1beta2", "items": []object{}},
		"/api/v1/services": object{"kind": "ServiceList", "apiVersion": "v1", "metadata": object{"continue": "more"}, "items": []object{
			service("one", object{"metallb.io/address-pool": "a"})}},
		"/api/v1/services?more": object{"kind": "ServiceList", "apiVersion": "v1", "metadata": object{}, "items": []object{
			service("two", object{"metallb.io/allow-shared-ip": "k"})}},
	}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	config := "apiVersion: v1\nkind: Config\ncurrent-context: here\nclusters: [{name: c, cluster: {server: \"" + server.URL + "\"}}]\n" +
		"users: [{name: u, user: {token: t}}]\ncontexts: [{name: here, context: {cluster: c, user: u, namespace: other}}, {name: nowhere, context: {cluster: d, user: u}}]\n"
	require.NoError(t, os.WriteFile(path, []byte(config), 0o600))
	return s, path
}

// TestMigrateFromCluster reads the objects, in a version that is known, and all Services.
func TestMigrateFromCluster(t *testing.T) {
	s, kubeconfig := newAPIServer(t)
	script := filepath.Join(t.TempDir(), "annotations.sh")
	got := runProgram(t, "", "migrate", "metallb", "--kubeconfig", kubeconfig, "--annotations", script)
	require.Equal(t, outcome{"apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\npools:\n  - name: a\n    addresses:\n      - 192.0.2.0/28\n", "", 0}, got)
	require.Contains(t, read(t, script), "service one baremetal.cloud/pool=a")
	require.Contains(t, read(t, script), "service two baremetal.cloud/sharing-key=k")

	elsewhere := runProgram(t, "", "migrate", "metallb", "--kubeconfig", kubeconfig, "-n", "elsewhere")
	require.Equal(t, outcome{"", "error: the configuration is not understood:\ncluster: gives no addresses of metallb: want the ConfigMap config, or an IPAddressPool\n", statusError}, elsewhere)
	require.Zero(t, runProgram(t, "", "migrate", "metallb", "--kubeconfig", kubeconfig, "-n", "elsewhere", "-A").status)

	s.change(func(objects map[string]any) {
		pool := objects["/apis/metallb.io/v1beta1/ipaddresspools"].(object)["items"].([]object)[0]["spec"].(object)
		pool["autoAsign"] = true
	})
	refused := runProgram(t, "", "migrate", "metallb", "--kubeconfig", kubeconfig)
	require.Equal(t, statusError, refused.status)
	require.Contains(t, refused.stderr, "cluster: IPAddressPool metallb-system/a: spec.autoAsign: unknown key")
}

// TestClusterTroubles: a kind that the cluster does not have is nothing; anything else is an error.
func TestClusterTroubles(t *testing.T) {
	s, kubeconfig := newAPIServer(t)
	none := runProgram(t, "", "migrate", "cilium", "--kubeconfig", kubeconfig)
	require.Equal(t, statusError, none.status)
	require.Contains(t, none.stderr, "cluster: gives no addresses of cilium")
	s.change(func(objects map[string]any) {
		objects["/api/v1/services"] = object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403}
	})
	require.Equal(t, statusError, runProgram(t, "", "migrate", "metallb", "--kubeconfig", kubeconfig, "--context", "nowhere").status)
}
