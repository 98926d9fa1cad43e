//go:build runaway

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// runaway makes the process run wild at a signal. It is in a build for test/bench: never install
// that build. By SIGUSR1 a goroutine of no special thread loops for ever, by SIGUSR2 one allocates
// for ever, and by SIGHUP the goroutine loops that answers for addresses.
func (t threads) runaway() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGHUP)
	var ends [2]int
	if err := syscall.Pipe(ends[:]); err != nil {
		panic(err)
	}
	if err := t.announcer.loop.Add(ends[0], spinForever); err != nil {
		panic(err)
	}
	go func() {
		for s := range signals {
			switch s {
			case syscall.SIGUSR1:
				go spinForever()
			case syscall.SIGUSR2:
				go devourMemory()
			case syscall.SIGHUP:
				_, _ = syscall.Write(ends[1], []byte{0})
			}
		}
	}()
}

func spinForever() {
	for {
	}
}

// devourMemory keeps some of what it allocates, in turns.
func devourMemory() {
	var kept [64][]byte
	for i := 0; ; i++ {
		kept[i%len(kept)] = make([]byte, 64<<10)
	}
}
