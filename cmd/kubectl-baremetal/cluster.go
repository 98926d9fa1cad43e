package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/dynamic"

	"baremetal.cloud/ccm/pkg/migrate"
)

// kind is a kind of object to read: its versions with the preferred one first.
type kind struct {
	group, name string
	versions    []string
	// namespace and object pick one object; "" for all.
	namespace, object string
}

// kinds are the objects of each product's configuration.
var kinds = map[migrate.Product][]kind{
	migrate.MetalLB: {
		{group: "metallb.io", name: "IPAddressPool", versions: []string{"v1beta1"}},
		{group: "metallb.io", name: "AddressPool", versions: []string{"v1beta1"}},
		{group: "metallb.io", name: "L2Advertisement", versions: []string{"v1beta1"}},
		{group: "metallb.io", name: "BGPAdvertisement", versions: []string{"v1beta1"}},
		{group: "metallb.io", name: "BGPPeer", versions: []string{"v1beta2", "v1beta1"}},
		{group: "metallb.io", name: "Community", versions: []string{"v1beta1"}},
		{group: "metallb.io", name: "BFDProfile", versions: []string{"v1beta1"}},
		{name: "ConfigMap", versions: []string{"v1"}, namespace: "metallb-system", object: "config"},
		{name: "ConfigMap", versions: []string{"v1"}, namespace: "metallb-system", object: "bgpextras"},
	},
	migrate.OpenELB: {
		{group: "network.kubesphere.io", name: "Eip", versions: []string{"v1alpha2"}},
		{group: "network.kubesphere.io", name: "BgpConf", versions: []string{"v1alpha2"}},
		{group: "network.kubesphere.io", name: "BgpPeer", versions: []string{"v1alpha2"}},
	},
	migrate.KubeVIP: {
		{name: "ConfigMap", versions: []string{"v1"}, namespace: "kube-system", object: "kubevip"},
		{group: "apps", name: "DaemonSet", versions: []string{"v1"}, namespace: "kube-system"},
	},
	migrate.PureLB: {
		{group: "purelb.io", name: "ServiceGroup", versions: []string{"v2", "v1"}},
		{group: "purelb.io", name: "LBNodeAgent", versions: []string{"v2", "v1"}},
	},
	migrate.Cilium: {
		{group: "cilium.io", name: "CiliumLoadBalancerIPPool", versions: []string{"v2", "v2alpha1"}},
		{group: "cilium.io", name: "CiliumL2AnnouncementPolicy", versions: []string{"v2alpha1"}},
		{group: "cilium.io", name: "CiliumBGPPeeringPolicy", versions: []string{"v2alpha1"}},
		{group: "cilium.io", name: "CiliumBGPClusterConfig", versions: []string{"v2", "v2alpha1"}},
		{group: "cilium.io", name: "CiliumBGPPeerConfig", versions: []string{"v2", "v2alpha1"}},
		{group: "cilium.io", name: "CiliumBGPAdvertisement", versions: []string{"v2", "v2alpha1"}},
		{group: "cilium.io", name: "CiliumBGPNodeConfigOverride", versions: []string{"v2", "v2alpha1"}},
	},
}

// pageSize is how many objects are asked for at once.
const pageSize = 500

// readCluster returns the configuration of a product and all Services as one List.
func readCluster(ctx context.Context, flags *genericclioptions.ConfigFlags, product migrate.Product, all bool) ([]byte, error) {
	config, err := flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	mapper, err := flags.ToRESTMapper()
	if err != nil {
		return nil, err
	}
	r := clusterReader{client, mapper, ""}
	if !all && flags.Namespace != nil {
		r.namespace = *flags.Namespace
	}
	var items []any
	for _, k := range kinds[product] {
		found, err := r.read(ctx, k)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", k.name, err)
		}
		items = append(items, found...)
	}
	r.namespace = ""
	services, err := r.read(ctx, kind{name: "Service", versions: []string{"v1"}})
	if err != nil {
		return nil, fmt.Errorf("reading Services: %w", err)
	}
	items = append(items, services...)
	return json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
}

// clusterReader reads objects.
type clusterReader struct {
	client dynamic.Interface
	mapper meta.RESTMapper
	// namespace limits the objects that have one; "" is all.
	namespace string
}

// read returns the objects of a kind; none if the cluster does not have the kind.
func (r clusterReader) read(ctx context.Context, k kind) ([]any, error) {
	mapping, err := r.mapping(k)
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var resource dynamic.ResourceInterface = r.client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		namespace := k.namespace
		if r.namespace != "" {
			namespace = r.namespace
		}
		resource = r.client.Resource(mapping.Resource).Namespace(namespace)
	}
	if k.object != "" {
		object, err := resource.Get(ctx, k.object, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return []any{slim(object)}, nil
	}
	return list(ctx, resource)
}

// mapping finds the resource of a kind, in a version that can be read if there is one. The first
// answer may be from kubectl's cache.
func (r clusterReader) mapping(k kind) (*meta.RESTMapping, error) {
	groupKind := schema.GroupKind{Group: k.group, Kind: k.name}
	var errs []error
	for _, v := range k.versions {
		mapping, err := r.mapper.RESTMapping(groupKind, v)
		if err == nil {
			return mapping, nil
		}
		errs = append(errs, err)
	}
	mapping, err := r.mapper.RESTMapping(groupKind)
	if err == nil || meta.IsNoMatchError(err) {
		return mapping, err
	}
	return nil, errors.Join(errs...)
}

func list(ctx context.Context, resource dynamic.ResourceInterface) ([]any, error) {
	var items []any
	options := metav1.ListOptions{Limit: pageSize}
	for {
		page, err := resource.List(ctx, options)
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			items = append(items, slim(&page.Items[i]))
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return items, nil
		}
	}
}

// slim leaves out what is large and says nothing about a configuration.
func slim(object *unstructured.Unstructured) map[string]any {
	object.SetManagedFields(nil)
	annotations := object.GetAnnotations()
	delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
	if annotations != nil {
		object.SetAnnotations(annotations)
	}
	return object.Object
}
