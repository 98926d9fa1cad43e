package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"baremetal.cloud/ccm/pkg/announcer/bgp"
	"baremetal.cloud/ccm/pkg/announcer/realtime"
)

// speakerCommand, as the only argument, makes this program the process that speaks BGP for
// the announcer that started it.
const speakerCommand = "bgp-speaker"

// speakerMemory is the soft limit of that process, beside the announcer's own, and how much
// garbage it may have: what it keeps, some kilobyte for a prefix and peer, changes seldom.
var speakerMemory = []string{"GOMEMLIMIT=64MiB", "GOGC=30"}

// speakerProcess returns what runs that process.
func speakerProcess() *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", speakerCommand)
	cmd.Args[0] = programName
	cmd.Env = append(os.Environ(), speakerMemory...)
	return cmd
}

// runSpeaker is the life of that process. It ends when its announcer does, and not by the signals
// that end it: the announcer first says what to tell routers.
func runSpeaker() int {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	// It began with the short turns of its announcer's threads. Routers wait seconds for it, and with
	// many prefixes it computes for long.
	if err := realtime.Leave(); err != nil {
		fmt.Fprintf(os.Stderr, "%s %s: %v\n", programName, speakerCommand, err)
	}
	if err := bgp.Serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s %s: %v\n", programName, speakerCommand, err)
		return 1
	}
	return 0
}
