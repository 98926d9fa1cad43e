package failover

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// A million schedules: FAILOVER_SCHEDULES=1000000 go test -run TestSimulation -timeout 0 ./pkg/announcer/failover
// The same ones each time: FAILOVER_FIRST=1 as well, which is the seed of the first.
// One again, with its history: go test -run TestSimulation ./pkg/announcer/failover -seed N
var seedFlag = flag.Uint64("seed", 0, "run only this schedule of TestSimulation and print its history")

// regressions are schedules that once failed.
var regressions = []uint64{
	// A node came to be heard again when the one that answered came not to be, and told what it
	// claims an interval late.
	1227674418118069102, 1358583778381459530,
	// A node that is unhealthy and did not hear the first candidate took the address from it, gave
	// it to the next one, whom the first forestalled, and so on.
	5504005237955534918,
	// A node yielded to one that is unhealthy, and did not know when to take the address from it.
	1746488673220869749,
	// Three packets about one claim were lost.
	4135560744877848091,
	// A node claimed an address for so short that the one that had it all along never heard so.
	1173446978830495912,
	// A node that was not ready took an address that was long due at the very end.
	792627201435334221,
	// A node believed that nobody answers, for it had asked before it heard somebody announce.
	436129,
	// A node had asked in vain so often that it took an address late when it was due; and one that
	// did not ask less often took it again and again.
	1625966511853555325, 8106488640521918897, 53179,
	// A node that is not ready waited for the turns of a node that lies, at each of its lives.
	4818958493561431283,
}

const (
	simulations = 2000
	// moving is the seeds, modulo 8, in whose schedules addresses of nodes move.
	moving = 5
	// lying is those in whose schedules a node lies, and muting those in which nodes cannot send.
	lying    = 3
	muting   = 4
	maxNodes = 5
	maxVIPs  = 3
	// bound is for how long two nodes may answer after something happened: the detection
	// time and 100 ms.
	bound = 400 * time.Millisecond
	// hops is how long they may at other times: nodes that hear each other are two hops
	// of up to a millisecond apart.
	hops = 3 * time.Millisecond
	// burst is for how long an address is announced once there was a reason to.
	burst = (announcements - 1) * announceInterval
	// settled is when exactly one has to answer after the last thing happened.
	settled = 1500 * time.Millisecond
	// agreed is for how long two may answer that do not hear each other, and hear what they
	// announce, whatever else happens meanwhile: until each has answered the other, after a pause
	// perhaps, and the later one has waited for packets.
	agreed = 3*reannouncePause + 50*time.Millisecond
)

// TestSimulation holds the ownership rule against random schedules of everything that
// happens to nodes and LANs. At no time do two nodes answer for an address that can hear
// each other or one the other, but for the detection time and 100 ms after something
// happened, and two hops at other times. Nor do two whose packets alone are lost, but for a while; in the end exactly one does of those that live, are able and are on one
// LAN. Row L1, L10.
func TestSimulation(t *testing.T) {
	if *seedFlag != 0 {
		history := &strings.Builder{}
		err := simulate(*seedFlag, history)
		t.Log("\n" + history.String())
		require.NoError(t, err)
		return
	}
	for _, seed := range regressions {
		require.NoError(t, simulate(seed, nil), "seed %d", seed)
	}
	n, first := fromEnv(t, "FAILOVER_SCHEDULES", simulations), fromEnv(t, "FAILOVER_FIRST", 1+rand.Uint64()>>1)
	t.Logf("%d schedules from seed %d", n, first)
	failed := make(chan error, 1)
	seeds := make(chan uint64)
	t.Run("schedules", func(t *testing.T) {
		for worker := range 2 {
			t.Run(strconv.Itoa(worker), func(t *testing.T) {
				t.Parallel()
				for seed := range seeds {
					if err := simulate(seed, nil); err != nil {
						select {
						case failed <- fmt.Errorf("seed %d: %w", seed, err):
						default:
						}
					}
				}
			})
		}
		go func() {
			defer close(seeds)
			for i := range n {
				seeds <- first + i
			}
		}()
	})
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
}

// TestFault_K2_2_AddressesOfPeersMove: as TestSimulation, in schedules in which nodes get other
// addresses that no leader knows of.
func TestFault_K2_2_AddressesOfPeersMove(t *testing.T) {
	first := fromEnv(t, "FAILOVER_FIRST", 1+rand.Uint64()>>1)&^7 + moving
	for i := range uint64(200) {
		require.NoError(t, simulate(first+8*i, nil), "seed %d", first+8*i)
	}
}

// TestFault_K4_4_ANodeClaimsUnderAFarTerm: as TestSimulation, in schedules in which a node with keys of
// its own claims all addresses under terms that no leader had, or never tells what it claims, and
// answers for none.
func TestFault_K4_4_ANodeClaimsUnderAFarTerm(t *testing.T) {
	first := fromEnv(t, "FAILOVER_FIRST", 1+rand.Uint64()>>1)&^7 + lying
	for i := range uint64(200) {
		require.NoError(t, simulate(first+8*i, nil), "seed %d", first+8*i)
	}
}

// TestFault_K2_1_NodesCannotSend: as TestSimulation, in schedules in which a firewall keeps some nodes
// or all of them from sending heartbeats.
func TestFault_K2_1_NodesCannotSend(t *testing.T) {
	first := fromEnv(t, "FAILOVER_FIRST", 1+rand.Uint64()>>1)&^7 + muting
	for i := range uint64(200) {
		require.NoError(t, simulate(first+8*i, nil), "seed %d", first+8*i)
	}
}

// fromEnv returns the number that an environment variable is set to, or fallback.
func fromEnv(t *testing.T, name string, fallback uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, name)
	return n
}

// simulation is a world to which things happen at random.
type simulation struct {
	*world
	history *strings.Builder
	random  *rand.Rand
	vips    []netip.Addr
	plan    plan.NodePlan
	// disturbed is when something happened last; lossy says that it still goes on.
	disturbed time.Duration
	lossy     bool
	// rewired is when the LAN was cut or healed last.
	rewired time.Duration
	slack   time.Duration
	failure error
	changed time.Duration
	// told and last are what was seen of each node's claims and of who answers last.
	told [maxNodes]told
	last answers
	// had is when each node answered for each address last, both since when two do that hear
	// each other, and apart since when two that do not; zero where they do not.
	had         [maxVIPs][maxNodes]time.Duration
	both, apart [maxVIPs]time.Duration
	// firewall draws whose packets are lost, where there are such schedules.
	firewall *rand.Rand
	// muter draws who cannot send, where there are such schedules.
	muter *rand.Rand
	// mover draws whose address is another one from then on, where there are such schedules.
	mover *rand.Rand
	moved int
	// lies draws what a node says that answers for nothing, where there are such schedules, and
	// liar is that node.
	lies *rand.Rand
	liar string
	// life is the liar's, and silent says that it has others ask for claims that it seldom tells.
	life   uint64
	silent bool
}

// told is what a node claims, by address. All that is looked at after each event of a
// million schedules is not looked up in it each time.
type told struct {
	claims plan.Index[plan.Claim]
	stamps [maxVIPs]plan.Version
}

// answers is who answers for which address under which list, the zero Stamp being not at all,
// and which of the addresses some node knows of.
type answers struct {
	known [maxVIPs]bool
	who   [maxVIPs][maxNodes]plan.Version
}

func simulate(seed uint64, history *strings.Builder) error {
	random := rand.New(rand.NewPCG(seed, 1))
	names := []string{"a", "b", "c", "d", "e"}[:2+random.IntN(maxNodes-1)]
	s := &simulation{world: newWorld(seed, names...), history: history, random: random}
	s.latency = func() time.Duration { return time.Duration(50+random.IntN(1000)) * time.Microsecond }
	for i := range 1 + random.IntN(maxVIPs) {
		s.vips = append(s.vips, netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i)}))
	}
	if seed%2 == 1 {
		s.hesitate(time.Duration(seed%7) * time.Millisecond)
	}
	if seed%4 == 2 {
		s.firewall = rand.New(rand.NewPCG(seed, 2))
	}
	if seed%8 == muting {
		s.muter = rand.New(rand.NewPCG(seed, 5))
	}
	if seed%8 == moving {
		s.mover, s.moving = rand.New(rand.NewPCG(seed, 3)), true
	}
	if seed%8 == lying && len(names) > 2 {
		s.lies, s.liar = rand.New(rand.NewPCG(seed, 4)), names[len(names)-1]
		s.silent = s.lies.IntN(4) == 0
		s.kill(s.liar)
		s.lie(1)
	}
	s.onTurn = s.check
	s.plan.Cluster = "c"
	s.replan()
	for range 3 + random.IntN(8) {
		s.run(s.now + time.Duration(random.IntN(1500))*time.Millisecond)
		s.happen()
		s.block()
		s.silence()
		s.move()
		if s.failure != nil {
			return s.failure
		}
	}
	s.end()
	return errors.Join(s.failure, s.wrong)
}

// thinking is how long a node takes to think about all addresses.
func (s *simulation) thinking() time.Duration { return time.Duration(len(s.vips)) * s.hesitation }

func (s *simulation) note(format string, args ...any) {
	s.disturbed = s.now
	s.log(format, args...)
}

func (s *simulation) log(format string, args ...any) {
	if s.history != nil {
		fmt.Fprintf(s.history, "%9.3fs %s\n", (s.now - time.Hour).Seconds(), fmt.Sprintf(format, args...))
	}
}

// happen does one thing.
func (s *simulation) happen() {
	name := s.names[s.random.IntN(len(s.names))]
	if name == s.liar {
		return
	}
	switch s.random.IntN(14) {
	case 0, 1:
		s.topology()
	case 2:
		s.heal()
	case 3:
		how := time.Duration(s.random.IntN(1500)) * time.Millisecond
		s.note("pause %s for %s", name, how)
		s.pause(name, how)
		s.at(s.now+how, func() { s.note("resume %s", name) })
	case 4:
		s.note("kill %s", name)
		s.kill(name)
	case 5:
		s.note("leave %s", name)
		s.leave(name)
	case 6:
		s.note("start %s", name)
		s.start(name)
	case 7:
		s.note("restart %s", name)
		s.restart(name)
	case 8:
		s.nodeHealth(name)
	case 9:
		s.loss()
	case 10, 11:
		s.health(name)
	default:
		s.replan()
	}
}

// replan gives some addresses new lists, and brings the plan to each node when it likes.
func (s *simulation) replan() {
	s.plan.Version.Revision++
	if s.random.IntN(5) == 0 {
		s.plan.Version = plan.Version{Term: s.plan.Version.Term + 1, Revision: 1}
	}
	for _, vip := range s.vips {
		known := s.plan.Assignments.Has(vip)
		if known && s.random.IntN(2) == 0 {
			continue
		}
		order := s.random.Perm(len(s.names))[:min(len(s.names), 1+s.random.IntN(3))]
		a := plan.Assignment{Address: vip, Version: s.plan.Version}
		for _, n := range order {
			a.Candidates = append(a.Candidates, s.names[n])
		}
		if known {
			// A leader that moves an address keeps its claimants among the candidates.
			a.Candidates = s.withClaimants(a.Candidates, vip)
		}
		old, _ := s.plan.Assignments.Find(vip)
		a.Former = plan.FormerCandidates(old, a.Candidates)
		s.plan.Assignments = s.plan.Assignments.With(a)
	}
	nodePlan := s.plan
	s.note("plan %s: %v", nodePlan.Version, slices.Collect(nodePlan.Assignments.All()))
	for _, name := range s.names {
		s.at(s.now+time.Duration(s.random.IntN(1+s.random.IntN(600)))*time.Millisecond, func() {
			s.note("plan %s arrives at %s", nodePlan.Version, name)
			s.deliver(name, nodePlan)
		})
	}
}

func (s *simulation) withClaimants(candidates []string, vip netip.Addr) []string {
	for _, name := range s.names {
		if s.nodes[name].alive && !s.nodes[name].core.Claim(vip).IsZero() && !slices.Contains(candidates, name) {
			candidates = append(candidates, name)
		}
	}
	return candidates
}

// topology cuts the LAN in one of the ways in which LANs break.
func (s *simulation) topology() {
	s.rewired = s.now
	clear(s.cut)
	a, b := s.names[s.random.IntN(len(s.names))], s.names[s.random.IntN(len(s.names))]
	lose := func(from, to string) { s.cut[[2]string{from, to}] = true }
	how := s.random.IntN(4)
	if s.firewall != nil {
		// With more than one pair that hears each other one way only, and a node that is unhealthy, an
		// address may go round: docs/layer2.md says so.
		how = 0
	}
	switch how {
	case 0:
		half := s.random.IntN(1 << len(s.names))
		s.note("partition %0*b", len(s.names), half)
		for i, from := range s.names {
			for j, to := range s.names {
				if half>>i&1 != half>>j&1 {
					lose(from, to)
				}
			}
		}
	case 1:
		s.note("nobody hears %s", a)
		for _, to := range s.names {
			lose(a, to)
		}
	case 2:
		s.note("%s hears nobody", a)
		for _, from := range s.names {
			lose(from, a)
		}
	default:
		s.note("%s does not hear %s", b, a)
		lose(a, b)
	}
}

func (s *simulation) heal() {
	s.rewired = s.now
	clear(s.cut)
	s.note("heal")
}

// block has a firewall lose what a node and others say to each other, in one direction or both,
// or no more.
func (s *simulation) block() {
	if s.firewall == nil || s.firewall.IntN(3) > 0 {
		return
	}
	clear(s.blocked)
	a, b := s.firewall.IntN(len(s.names)), s.firewall.IntN(len(s.names))
	switch s.firewall.IntN(4) {
	case 0:
		s.note("nobody is blocked")
	case 1:
		s.note("%s does not hear what %s says", s.names[b], s.names[a])
		s.blocked[[2]string{s.names[a], s.names[b]}] = true
	case 2:
		s.note("%s and %s do not hear what they say", s.names[a], s.names[b])
		s.blocked[[2]string{s.names[a], s.names[b]}], s.blocked[[2]string{s.names[b], s.names[a]}] = true, true
	default:
		s.note("nobody hears what %s says, nor it them", s.names[a])
		for _, other := range s.names {
			s.blocked[[2]string{s.names[a], other}], s.blocked[[2]string{other, s.names[a]}] = true, true
		}
	}
}

// silence has a firewall keep nodes from sending to peers, all of them, one more or each by chance,
// or lets them.
func (s *simulation) silence() {
	if s.muter == nil || s.muter.IntN(3) > 0 {
		return
	}
	how, one := s.muter.IntN(4), s.muter.IntN(len(s.stations))
	for i, n := range s.stations {
		switch how {
		case 0:
			n.mute = false
		case 1:
			n.mute = true
		case 2:
			n.mute = n.mute || i == one
		default:
			n.mute = s.muter.IntN(2) == 0
		}
		s.note("%s is mute: %t", n.name, n.mute)
	}
}

// silenced says that a does not get what b says, or b what a says, though frames pass.
func (s *simulation) silenced(a, b string) bool {
	return s.blocked[[2]string{a, b}] || s.blocked[[2]string{b, a}] || s.nodes[a].mute || s.nodes[b].mute
}

// move gives a node another IPv4 address, as a DHCP server may. Leaders hear of it when the
// next one moves.
func (s *simulation) move() {
	if s.mover == nil || s.mover.IntN(2) > 0 {
		return
	}
	for _, n := range s.stations {
		n.guess = n.address
	}
	for _, n := range s.stations {
		s.configure(n)
	}
	s.moved++
	n := s.stations[s.mover.IntN(len(s.stations))]
	n.address = netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + s.moved)})
	s.note("%s is at %s now", n.name, n.address)
}

// lie has the liar tell all others that it claims everything under a far term, with whatever
// proofs it has, or that it claims something and not what. Now and then it begins a life.
func (s *simulation) lie(seq uint64) {
	if s.lies.IntN(20) == 0 {
		s.life++
	}
	part, digest := &Part{Range: true}, Digest(0)
	if s.silent && s.lies.IntN(3) > 0 {
		part, digest = nil, Digest(s.lies.Uint64())
	}
	for _, vip := range s.vips {
		if s.silent {
			break
		}
		claim := plan.Claim{Address: vip, Version: plan.Version{Term: 1000 + s.lies.Uint64N(3), Revision: 1}}
		part.Claims = append(part.Claims, claim)
		digest.Toggle(claim)
		proof := plan.Proof{1}
		if list, ok := s.plan.Assignments.Find(vip); ok && s.lies.IntN(2) == 0 {
			checker := s.names[s.lies.IntN(len(s.names))]
			proof = s.proven(list, s.liar).Proof(s.liar, checker)
		}
		part.Proofs = append(part.Proofs, proof)
	}
	from := s.nodes[s.liar]
	for _, n := range s.stations {
		if n != from {
			s.carry(from, n, Packet{
				From: s.liar, Incarnation: 1 + s.life, Seq: seq, Heard: Echo{n.core.incarnation, n.core.seq}, Hears: s.lies.IntN(2) == 0,
				Standing: Standing{Alone: s.lies.IntN(2) == 0, Company: s.lies.IntN(2) == 0},
				Detect:   300 * time.Millisecond, Apart: s.lies.Uint32(), Digest: digest, Part: part,
			}, from.address)
		}
	}
	s.at(s.now+s.world.settings.TransmitInterval, func() { s.lie(seq + 1) })
}

// stray is for how long packets may go to where a peer was before: until one is missed.
func (s *simulation) stray() time.Duration {
	if s.mover == nil {
		return 0
	}
	return s.settings.TransmitInterval
}

func (s *simulation) nodeHealth(name string) {
	n := s.nodes[name]
	vip := s.vips[s.random.IntN(len(s.vips))]
	n.unable[vip] = !n.unable[vip]
	s.note("%s unfit for %s: %t", name, vip, n.unable[vip])
	s.configure(n)
}

// health has a node's service proxy fail or work again.
func (s *simulation) health(name string) {
	n := s.nodes[name]
	n.unready, n.unhealthy = s.random.IntN(3) > 0, s.random.IntN(3) == 0
	s.note("%s unready: %t, unhealthy: %t", name, n.unready, n.unhealthy)
	s.configure(n)
}

// loss begins or ends random loss: any number of packets, or never two in a row.
func (s *simulation) loss() {
	kind := s.random.IntN(3)
	s.lossy, s.slack = kind == 1, 0
	percent := 1 + s.random.IntN(50)
	missed := map[[2]string]bool{}
	s.lost = func(string, string) bool { return false }
	switch kind {
	case 1:
		s.lost = func(string, string) bool { return s.random.IntN(100) < percent }
	case 2:
		// A claim, the question for it and the answer may each be lost, and more than once.
		s.slack = 500 * time.Millisecond
		s.lost = func(from, to string) bool {
			pair := [2]string{from, to}
			missed[pair] = !missed[pair] && s.random.IntN(100) < percent
			return missed[pair]
		}
	}
	s.note("loss of kind %d, %d %%", kind, percent)
}

// check looks for two owners.
func (s *simulation) check() {
	if state := s.look(); state != s.last {
		s.last, s.changed = state, s.now
		s.log("%s", s)
	}
	if s.lossy {
		// Some packets come, and what a node of whom any come announces does not count.
		s.disturbed, s.apart = s.now, [maxVIPs]time.Duration{}
	}
	for i, vip := range s.vips {
		count := 0
		for j := range s.stations {
			if !s.last.who[i][j].IsZero() {
				s.had[i][j] = s.now
				count++
			}
		}
		if count < 2 {
			s.both[i], s.apart[i] = 0, 0
			continue
		}
		s.limit(vip, s.met, &s.both[i], bound+s.stray()+s.slack, hops+s.thinking()+s.slack)
		s.limit(vip, s.agree(vip, s.rewired), &s.apart[i], 0, agreed+s.thinking()+s.slack)
	}
}

// limit fails when two nodes of which together says that they are not to answer both for vip do,
// since for longer than while, and the last fault is longer ago than after.
func (s *simulation) limit(vip netip.Addr, together func(a, b string) bool, since *time.Duration, after, while time.Duration) {
	a, b := s.two(vip, together)
	if a == "" {
		*since = 0
		return
	}
	if *since == 0 {
		*since = s.now
	}
	if s.now-s.disturbed > after && s.now-*since > while && s.failure == nil {
		s.failure = fmt.Errorf("%s and %s answer for %s %s after the last fault, for %s", a, b, vip, s.now-s.disturbed, s.now-*since)
	}
}

// look returns who answers for what now.
func (s *simulation) look() answers {
	now := answers{known: s.last.known}
	for j, n := range s.stations {
		for i, vip := range s.vips {
			now.known[i] = now.known[i] || n.plan.Assignments.Has(vip)
		}
		if !s.speaks(n) {
			continue
		}
		known := &s.told[j]
		if claims := n.core.Claims(); claims != known.claims {
			known.claims = claims
			for i, vip := range s.vips {
				known.stamps[i] = n.core.Claim(vip)
			}
		}
		for i := range s.vips {
			now.who[i][j] = known.stamps[i]
		}
	}
	return now
}

// String says who answers for what, in a line.
func (s *simulation) String() string {
	return strings.ReplaceAll(strings.TrimSpace(s.world.String()), "\n", "; ")
}

// two returns two nodes that answer for vip of which together says that it is so, or "".
func (s *simulation) two(vip netip.Addr, together func(a, b string) bool) (string, string) {
	who := s.owners(vip)
	for i, a := range who {
		for _, b := range who[i+1:] {
			if together(a, b) {
				return a, b
			}
		}
	}
	return "", ""
}

// met says that two nodes are on one LAN: they hear each other, or one the other while it
// knows from before that what it hears is no recording.
func (s *simulation) met(a, b string) bool {
	knows := func(listener, speaker string) bool {
		known := s.nodes[listener].core.peers[speaker]
		pair := [2]string{speaker, listener}
		return !s.cut[pair] && !s.blocked[pair] && !s.nodes[speaker].mute && known.newest.Incarnation == s.nodes[speaker].core.incarnation
	}
	both := s.joined(a, b) && !s.silenced(a, b)
	return a == b || both || knows(a, b) || knows(b, a)
}

// agree says of two nodes that they hear what they announce, that one did since both claim vip and
// after some time, and that they have the same list of it: on lists of different age they need
// their packets.
func (s *simulation) agree(vip netip.Addr, after time.Duration) func(a, b string) bool {
	return func(a, b string) bool {
		one, other := s.nodes[a], s.nodes[b]
		mine, _ := one.plan.Assignments.Find(vip)
		its, _ := other.plan.Assignments.Find(vip)
		word := max(one.words[announced{b, vip}], other.words[announced{a, vip}])
		return s.joined(a, b) && mine.Version == its.Version && word > max(one.began[vip], other.began[vip], after)
	}
}

// end lets things calm down, perhaps on a broken LAN, and looks who answers.
func (s *simulation) end() {
	s.lossy, s.slack = false, 0
	s.lost = func(string, string) bool { return false }
	s.heal()
	if s.random.IntN(2) == 0 {
		s.topology()
	}
	s.run(s.now + 2*time.Second) // Pauses end, plans arrive.
	if s.liar != "" {
		// Patience with the liar ends; one that is not ready, and waits for others at each of its lives, has its turn.
		s.run(s.now + 2*claimWaitLimit)
	}
	s.note("calm")
	s.run(s.now + settled)
	for range 3 {
		if s.now-s.changed < settled/3 {
			s.run(s.now + settled) // A node that waited because it is not ready may have its turn late.
		}
	}
	if s.failure != nil {
		return
	}
	if s.now-s.changed < settled/3 {
		s.failure = fmt.Errorf("owners change without end: %s", s)
	}
	for i, vip := range s.vips {
		for _, part := range s.parts() {
			s.checkPart(vip, part)
			s.checkLastWord(i, part)
		}
	}
}

// parts returns the groups of nodes whose frames reach each other, one way at least.
func (s *simulation) parts() [][]string {
	var parts [][]string
	for _, name := range s.names {
		at := slices.IndexFunc(parts, func(p []string) bool {
			return !s.cut[[2]string{p[0], name}] || !s.cut[[2]string{name, p[0]}]
		})
		if at < 0 {
			parts = append(parts, []string{name})
			continue
		}
		parts[at] = append(parts[at], name)
	}
	return parts
}

// checkPart wants exactly one owner where somebody can answer.
func (s *simulation) checkPart(vip netip.Addr, part []string) {
	can, do := 0, 0
	for _, name := range part {
		n := s.nodes[name]
		list, _ := n.plan.Assignments.Find(vip)
		// Health never leaves an address with nobody, and so does not count here.
		if n.alive && !n.unable[vip] && slices.Contains(list.Candidates, name) {
			can++
		}
		if s.answers(name, vip) {
			do++
		}
	}
	strangers := slices.ContainsFunc(part, func(a string) bool {
		return slices.ContainsFunc(part, func(b string) bool { return !s.met(a, b) })
	})
	if a, b := s.two(vip, s.agree(vip, 0)); a != "" {
		s.failure = fmt.Errorf("%s and %s answer for %s, and hear what they announce", a, b, vip)
	}
	if do < min(can, 1) || do > 1 && !strangers {
		s.failure = fmt.Errorf("of %v %d answer for %s, %d could", part, do, vip, can)
	}
}

// checkLastWord wants that whoever answers announces the address after all those could have
// whom it hears and who hear it: any of them may have while it answered, and hosts believe the
// last one. Where a firewall is between them it has to announce it after those did.
func (s *simulation) checkLastWord(i int, part []string) {
	vip := s.vips[i]
	for _, owner := range part {
		for _, other := range part {
			excused := !s.nodes[other].alive || s.nodes[other].left // See Core.Receive of those who leave.
			if owner == other || excused || !s.answers(owner, vip) || s.answers(other, vip) || !s.joined(owner, other) {
				continue
			}
			had := s.had[i][slices.Index(s.names, other)]
			if s.silenced(owner, other) {
				had = s.nodes[owner].words[announced{other, vip}] // It learns of nothing else.
			}
			if last := s.nodes[owner].told[vip] + burst; last < had && s.failure == nil {
				s.failure = fmt.Errorf("%s has %s and stopped announcing it %s before %s stopped answering", owner, vip, had-last, other)
			}
		}
	}
}
