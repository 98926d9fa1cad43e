package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/announcer/planfile"
)

const (
	// prefixes is how many of each family one node announces; each of the four sessions, two
	// to either router, carries one family.
	prefixes    = 10_000
	prefixPeers = 4
	// planOnDisk is where an announcer keeps its plan.
	planOnDisk = "/var/lib/baremetal-announcer/plan"
)

// manyPrefixes has one announcer start with a plan of 10 000 prefixes for each of four peers.
// Nobody leads meanwhile: the plan is the one on its disk.
func (l *lab) manyPrefixes(ctx context.Context, s sample, _ int) (err error) {
	node := l.cluster.Nodes()[0]
	path := l.cluster.HostPath(node, planOnDisk)
	for _, what := range []string{"ccm", "announcer:" + node} {
		if err := l.cluster.Stop(ctx, what); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.cluster.Start(context.WithoutCancel(ctx), what)) }()
	}
	kept, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	crowded, err := withPrefixes(kept)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, crowded, 0o600); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, l.cluster.Stop(context.WithoutCancel(ctx), "announcer:"+node), os.WriteFile(path, kept, 0o600))
	}()
	began := time.Now()
	if err := l.cluster.Start(ctx, "announcer:"+node); err != nil {
		return err
	}
	first, last, err := l.received(ctx)
	if err != nil {
		return err
	}
	s.Figures["prefixes_sent_ms"], s.Figures["prefixes_start_ms"] = ms(last.Sub(first)), ms(last.Sub(began))
	if err := pause(ctx, settle); err != nil {
		return err
	}
	return l.speakerMemory(node, s)
}

// withPrefixes returns a kept plan with many routes by the first advertisement that it has.
func withPrefixes(data []byte) ([]byte, error) {
	kept, err := planfile.Decode(data)
	if err != nil {
		return nil, err
	}
	said := &kept.Plan.BGP
	if len(said.Advertisements) == 0 || len(said.Peers) != prefixPeers {
		return nil, fmt.Errorf("the kept plan has %d peers and %d advertisements", len(said.Peers), len(said.Advertisements))
	}
	said.Routes = nil
	for _, address := range []netip.Addr{netip.MustParseAddr("198.19.0.0"), netip.MustParseAddr("2001:db8:6000::")} {
		for range prefixes {
			said.Routes = append(said.Routes, plan.Route{
				Prefix: netip.PrefixFrom(address, address.BitLen()), Advertisements: []string{said.Advertisements[0].Name},
			})
			address = address.Next()
		}
	}
	return planfile.Encode(kept)
}

// received waits until the routers hold all prefixes from each of four sessions, and returns
// when the first was seen and when the last.
func (l *lab) received(ctx context.Context) (first, last time.Time, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, gapPatience, errWaitedTooLong)
	defer cancel()
	for {
		counts, err := l.counted(ctx)
		now := time.Now()
		if err != nil {
			return first, now, err
		}
		if first.IsZero() && slices.Max(counts) > 0 {
			first = now
		}
		if slices.Min(counts) == prefixes {
			return first, now, nil
		}
		if pause(ctx, 10*time.Millisecond) != nil {
			return first, now, fmt.Errorf("the routers hold %v prefixes: %w", counts, context.Cause(ctx))
		}
	}
}

// counted is how many prefixes the routers hold, by session; nobody announces any but one node.
func (l *lab) counted(ctx context.Context) ([]int, error) {
	out, err := l.cluster.FRR(ctx, "show bgp summary json")
	if err != nil {
		return nil, err
	}
	var families map[string]struct {
		Peers map[string]struct{ PfxRcd int }
	}
	if err := json.Unmarshal([]byte(out), &families); err != nil {
		return nil, err
	}
	counts := make([]int, prefixPeers)
	for i, family := range []string{"ipv4Unicast", "ipv6Unicast"} {
		for _, p := range families[family].Peers {
			counts[i] += p.PfxRcd
		}
	}
	for i, table := range []string{"master4", "master6"} {
		out, err := l.cluster.BIRD(ctx, "show", "route", "table", table, "count")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(out) { // "10000 of 10000 routes for 10000 networks in table master4"
			if n, _, ok := strings.Cut(line, " of "); ok {
				if counts[2+i], err = strconv.Atoi(strings.TrimSpace(n)); err != nil {
					return nil, err
				}
			}
		}
	}
	return counts, nil
}

// speakerMemory reads the memory of node's announcer and of its BGP process, in MB of 10^6
// bytes.
func (l *lab) speakerMemory(node string, s sample) error {
	pid, err := l.announcer(node)
	if err != nil {
		return err
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return err
	}
	processes := []int{pid}
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for child := range strings.FieldsSeq(string(text)) {
			n, err := strconv.Atoi(child)
			if err != nil {
				return err
			}
			processes = append(processes, n)
		}
	}
	if len(processes) != 2 {
		return fmt.Errorf("the announcer of %s has %d processes", node, len(processes))
	}
	for i, name := range []string{"announcer", "speaker"} {
		bytes, err := processMemory(processes[i], "VmRSS")
		if err != nil {
			return err
		}
		s.Figures["prefixes_"+name+"_rss_mb"] = bytes / 1e6
		// Both are one program: what they share is counted half with either.
		if bytes, err = memoryIn(fmt.Sprintf("/proc/%d/smaps_rollup", processes[i]), "Pss"); err != nil {
			return err
		}
		s.Figures["prefixes_pss_mb"] += bytes / 1e6
	}
	return nil
}
