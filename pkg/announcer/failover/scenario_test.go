package failover

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/internal/scenarios"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestScenarios runs testdata/*.txt: each has a sentence of the ownership rule, blocks of
// commands, "----", and who answers from when on. Rows L1, L10 and L11.
func TestScenarios(t *testing.T) {
	scenarios.Run(t, play)
}

// scenario is a world that is told what to do and writes down who answers.
type scenario struct {
	*world
	t     testing.TB
	plan  plan.NodePlan
	began time.Duration
	last  string
	out   strings.Builder
}

func play(t testing.TB, text string) string {
	s := &scenario{t: t, plan: plan.NodePlan{Cluster: "c"}}
	for i, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		if i > 0 {
			s.out.WriteString("\n")
		}
		commands, _, hasOutput := strings.Cut(block, "\n----")
		s.out.WriteString(commands + "\n")
		if !hasOutput && i == 0 {
			continue // What the scenario is about.
		}
		s.out.WriteString("----\n")
		if s.world != nil {
			s.began = s.now
		}
		for line := range strings.Lines(commands) {
			if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
				s.do(words[0], words[1:])
			}
		}
	}
	require.NoError(t, s.wrong)
	return s.out.String()
}

// do carries out one command.
func (s *scenario) do(command string, words []string) {
	switch command {
	case "nodes": // nodes a b c
		s.world = newWorld(1, words...)
		s.onTurn = s.look
		s.began = s.now
		// Nobody is new to the others when the scenario begins.
		s.run(s.now + time.Second)
		s.began = s.now
	case "plan": // plan 1.2 10.0.0.1=a,b [to a b]
		s.replan(words)
	case "run": // run 300ms
		s.run(s.now + s.duration(words[0]))
		s.look()
	case "cut": // cut a: nobody hears a, a hears nobody
		for _, other := range s.names {
			s.cut[[2]string{words[0], other}], s.cut[[2]string{other, words[0]}] = true, true
		}
	case "deafen": // deafen a b: a does not hear b
		s.cut[[2]string{words[1], words[0]}] = true
	case "block": // block a b: neither gets what the other says, but the segment is whole
		s.blocked[[2]string{words[0], words[1]}], s.blocked[[2]string{words[1], words[0]}] = true, true
	case "overhear": // overhear b a 10.0.0.1: a's announcement comes to b late
		s.nodes[words[0]].core.PeerAnnounced(s.now, netip.MustParseAddr(words[2]), words[1])
		s.turn(s.nodes[words[0]])
	case "unblock":
		clear(s.blocked)
	case "heal":
		clear(s.cut)
	case "start":
		s.start(words[0])
	case "restart": // restart a: with the plan that it kept
		s.restart(words[0])
	case "kill":
		s.kill(words[0])
	case "leave":
		s.leave(words[0])
	case "pause": // pause a 250ms
		s.pause(words[0], s.duration(words[1]))
	case "unable", "able": // unable a 10.0.0.1
		n := s.nodes[words[0]]
		n.unable[netip.MustParseAddr(words[1])] = command == "unable"
		s.configure(n)
	case "unready", "ready", "unhealthy": // ready a: its service proxy works
		n := s.nodes[words[0]]
		n.unready, n.unhealthy = command == "unready", command == "unhealthy"
		s.configure(n)
	case "relink": // relink a: its carrier was lost and is back
		s.nodes[words[0]].core.Listen(s.now)
		s.configure(s.nodes[words[0]])
	case "mumble": // mumble d: d claims something and never says what
		s.nodes[words[0]].mumbles = true
	case "mute", "unmute": // mute a b: a firewall on each keeps its packets from leaving it
		for _, name := range words {
			s.nodes[name].mute = command == "mute"
		}
	case "noise": // noise b: b hears a hundred frames of others
		s.nodes[words[0]].frames += 100
	default:
		require.Fail(s.t, "no such command: "+command)
	}
}

func (s *scenario) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	require.NoError(s.t, err)
	return d
}

// replan makes a plan and brings it to all nodes, or to those named.
func (s *scenario) replan(words []string) {
	_, err := fmt.Sscanf(words[0], "%d.%d", &s.plan.Version.Term, &s.plan.Version.Revision)
	require.NoError(s.t, err)
	to := s.names
	var lists []plan.Assignment
	for i, word := range words[1:] {
		if word == "to" {
			to = words[i+2:]
			break
		}
		address, candidates, _ := strings.Cut(word, "=")
		lists = append(lists, plan.Assignment{
			Address: netip.MustParseAddr(address), Version: s.plan.Version, Candidates: strings.Split(candidates, ","),
		})
	}
	s.plan.Assignments = plan.NewIndex(lists...)
	for _, name := range to {
		s.deliver(name, s.plan)
	}
}

// look writes down who answers if that has changed.
func (s *scenario) look() {
	if state := s.String(); state != s.last {
		s.last = state
		for line := range strings.Lines(state) {
			fmt.Fprintf(&s.out, "%6s  %s", (s.now - s.began).Round(time.Millisecond), line)
		}
	}
}
