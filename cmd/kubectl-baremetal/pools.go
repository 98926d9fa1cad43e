package main

import (
	"context"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"baremetal.cloud/ccm/pkg/cloud/config"
)

func newPools(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	v := newView(flags, streams)
	command := &cobra.Command{
		Use:   "pools",
		Short: "List the pools of the cloud-config and how full they are",
		Long: `List the pools of the cloud-config and how full they are.

The cloud-config is read from the ConfigMap baremetal-cloud-config, and what is in use from the
status of the Services. Addresses that rest or are in quarantine count as free.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return v.showPools(command.Context()) },
	}
	command.Flags().StringVar(&v.namespace, "ccm-namespace", ourNamespace, "namespace in which baremetal-ccm runs")
	addOutput(command, &v.output, "table, wide (with addresses), json or yaml")
	return command
}

// poolView is a pool as it is shown. Sizes are texts: those of IPv6 pools fit no integer.
type poolView struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	Size      string   `json:"size"`
	Used      int      `json:"used"`
	Free      string   `json:"free"`
	Announced string   `json:"announced"`
	Disabled  bool     `json:"disabled"`
}

func (v *view) showPools(ctx context.Context) error {
	client, err := v.client()
	if err != nil {
		return err
	}
	maps := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(v.namespace)
	cfg, err := maps.Get(ctx, configMapName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading the ConfigMap %s/%s: %w", v.namespace, configMapName, err)
	}
	text, ok, _ := unstructured.NestedString(cfg.Object, "data", configMapKey)
	if !ok {
		return fmt.Errorf("the ConfigMap %s/%s has no key %s", v.namespace, configMapName, configMapKey)
	}
	parsed, _, err := config.Parse([]byte(text), v.namespace+"/"+configMapName)
	if err != nil {
		return fmt.Errorf("the cloud-config is refused, and the one before it is in use:\n%w", err)
	}
	all, err := services(ctx, client, "")
	if err != nil {
		return err
	}
	held := map[netip.Addr]bool{}
	for _, s := range all {
		for _, a := range s.Addresses {
			held[a] = true
		}
	}
	pools := []poolView{}
	for _, p := range parsed.Pools {
		pools = append(pools, viewOfPool(p, held))
	}
	return v.print(pools, poolRows(pools, v.output.value == "wide"))
}

func viewOfPool(p config.Pool, held map[netip.Addr]bool) poolView {
	v := poolView{Name: p.Name, Addresses: []string{}, Disabled: p.Disabled}
	size := new(big.Int)
	for _, r := range p.Ranges {
		size.Add(size, r.Size())
		v.Addresses = append(v.Addresses, r.String())
	}
	for a := range held {
		for _, r := range p.Ranges {
			if r.Contains(a) {
				v.Used++
			}
		}
	}
	v.Size = size.String()
	v.Free = size.Sub(size, big.NewInt(int64(v.Used))).String()
	var ways []string
	if len(p.L2) > 0 {
		ways = append(ways, "l2")
	}
	if len(p.BGP) > 0 {
		ways = append(ways, "bgp")
	}
	v.Announced = strings.Join(ways, "+")
	return v
}

func poolRows(pools []poolView, wide bool) [][]string {
	rows := [][]string{{"NAME", "SIZE", "USED", "FREE", "ANNOUNCED", "STATE"}}
	for _, p := range pools {
		state := "enabled"
		if p.Disabled {
			state = "disabled"
		}
		rows = append(rows, []string{p.Name, p.Size, fmt.Sprint(p.Used), p.Free, p.Announced, state})
	}
	if wide {
		rows[0] = append(slices.Clone(rows[0]), "ADDRESSES")
		for i, p := range pools {
			rows[i+1] = append(rows[i+1], strings.Join(p.Addresses, ","))
		}
	}
	return rows
}
