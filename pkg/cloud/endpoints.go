package cloud

import (
	discoveryv1 "k8s.io/api/discovery/v1"

	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/loadbalancer"
)

// bySlicesService is the index of EndpointSlices by the Service that they belong to.
const bySlicesService = "service"

// sliceService returns the key of the Service that an EndpointSlice belongs to, or "".
func sliceService(s *discoveryv1.EndpointSlice) string {
	name := s.Labels[discoveryv1.LabelServiceName]
	if name == "" {
		return ""
	}
	return s.Namespace + "/" + name
}

func indexBySlicesService(obj any) ([]string, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil, nil
	}
	return []string{sliceService(s)}, nil
}

// familyOf returns the family of a slice's endpoints. Host names (addressType FQDN) are of
// none: kube-proxy does not look at them.
func familyOf(t discoveryv1.AddressType) ipam.Family {
	switch t {
	case discoveryv1.AddressTypeIPv4:
		return ipam.IPv4
	case discoveryv1.AddressTypeIPv6:
		return ipam.IPv6
	}
	return 0
}

// endpointsOf merges the slices of one Service. A nil condition counts as true, which
// is how the API defines it.
func endpointsOf(slices []*discoveryv1.EndpointSlice) loadbalancer.Endpoints {
	var all []loadbalancer.Endpoint
	for _, s := range slices {
		family := familyOf(s.AddressType)
		for _, e := range s.Endpoints {
			ready := e.Conditions.Ready == nil || *e.Conditions.Ready
			serving := ready
			if e.Conditions.Serving != nil {
				serving = *e.Conditions.Serving
			}
			out := loadbalancer.Endpoint{Family: family, Ready: ready, Serving: serving}
			if e.NodeName != nil {
				out.Node = *e.NodeName
			}
			all = append(all, out)
		}
	}
	return loadbalancer.Usable(all)
}
