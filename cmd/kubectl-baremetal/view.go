package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/dynamic"
)

// Names that the CCM uses; a test compares them with package cloud.
const (
	conditionAllocated = "baremetal.cloud/Allocated"
	conditionAnnounced = "baremetal.cloud/Announced"
	configMapName      = "baremetal-cloud-config"
	configMapKey       = "cloud-config.yaml"
	ourNamespace       = "baremetal-ccm"
)

// view is a subcommand that shows what the API server has.
type view struct {
	genericiooptions.IOStreams
	flags     *genericclioptions.ConfigFlags
	output    output
	allSpaces bool
	// namespace is where the CCM runs.
	namespace string
}

// outputWords are the values of -o of a view.
var outputWords = []string{"table", "wide", "json", "yaml"}

func newView(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *view {
	return &view{IOStreams: streams, flags: flags, output: output{value: "table", words: outputWords}}
}

// client returns a client for the cluster that the flags name.
func (v *view) client() (dynamic.Interface, error) {
	config, err := v.flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	return dynamic.NewForConfig(config)
}

// services returns the Services of type LoadBalancer in a namespace, "" for all, by namespace and
// name.
func services(ctx context.Context, client dynamic.Interface, namespace string) ([]serviceView, error) {
	resource := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "services"}).Namespace(namespace)
	items, err := list(ctx, resource)
	if err != nil {
		return nil, fmt.Errorf("reading Services: %w", err)
	}
	out := []serviceView{}
	for _, item := range items {
		var svc corev1.Service
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.(map[string]any), &svc); err != nil {
			return nil, fmt.Errorf("reading Services: %w", err)
		}
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
			out = append(out, viewOf(&svc))
		}
	}
	slices.SortFunc(out, func(a, b serviceView) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return out, nil
}

// serviceView is a Service as it is shown.
type serviceView struct {
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	Class     string         `json:"class,omitempty"`
	Addresses []netip.Addr   `json:"addresses"`
	Allocated *conditionView `json:"allocated"`
	Announced *conditionView `json:"announced"`
}

// conditionView is a condition; nil if the Service does not have it.
type conditionView struct {
	Status  string    `json:"status"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
}

// isTrue reports whether the condition is there and true.
func (c *conditionView) isTrue() bool { return c != nil && c.Status == string(metav1.ConditionTrue) }

// reason returns the reason, or a dash if there is no condition.
func (c *conditionView) reason() string {
	if c == nil {
		return "-"
	}
	return c.Reason
}

func (c *conditionView) message() string {
	if c == nil {
		return "-"
	}
	return c.Message
}

func viewOf(svc *corev1.Service) serviceView {
	v := serviceView{Namespace: svc.Namespace, Name: svc.Name, Addresses: []netip.Addr{}}
	if svc.Spec.LoadBalancerClass != nil {
		v.Class = *svc.Spec.LoadBalancerClass
	}
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(ingress.IP); err == nil {
			v.Addresses = append(v.Addresses, a)
		}
	}
	for _, c := range svc.Status.Conditions {
		shown := &conditionView{string(c.Status), c.Reason, c.Message, c.LastTransitionTime.UTC()}
		switch c.Type {
		case conditionAllocated:
			v.Allocated = shown
		case conditionAnnounced:
			v.Announced = shown
		}
	}
	return v
}

// addressText lists the addresses, or a dash.
func (v serviceView) addressText() string {
	if len(v.Addresses) == 0 {
		return "-"
	}
	var texts []string
	for _, a := range v.Addresses {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ",")
}

// print writes a document as JSON or YAML, or rows as a table.
func (v *view) print(document any, rows [][]string) error {
	if v.output.value == "json" || v.output.value == "yaml" {
		text, err := encode(document, v.output.value)
		if err != nil {
			return err
		}
		_, err = io.WriteString(v.Out, text)
		return err
	}
	w := tabwriter.NewWriter(v.Out, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// serviceRows are the rows of Services, with their messages if wide is set.
func serviceRows(all []serviceView, wide bool) [][]string {
	head := []string{"NAMESPACE", "NAME", "ADDRESSES", "ALLOCATED", "ANNOUNCED"}
	if wide {
		head = append(head, "CLASS", "MESSAGE")
	}
	rows := [][]string{head}
	for _, s := range all {
		row := []string{s.Namespace, s.Name, s.addressText(), s.Allocated.reason(), s.Announced.reason()}
		if wide {
			class := s.Class
			if class == "" {
				class = "-"
			}
			message := s.Announced.message()
			if !s.Allocated.isTrue() {
				message = s.Allocated.message()
			}
			row = append(row, class, message)
		}
		rows = append(rows, row)
	}
	return rows
}
