package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
)

const (
	// announcerRequest is the CPU request of deploy/base, in thousandths of a core, and each announcer
	// of a ring asks for it. The Pods beside them ask for the rest of all cores.
	announcerRequest = 100
	sharesOfCore     = 1024
)

// cpuGroup is a group of processes that share processors by its weight; nil is that of this process.
type cpuGroup struct {
	path string
	// unified says that it is one of cgroup v2.
	unified bool
}

// cpuGroups are CPU groups as a kubelet makes them for Pods of class Burstable: one for the
// announcer, and one for Pods that ask for all the rest.
type cpuGroups struct {
	top               *cpuGroup
	announcer, others *cpuGroup
	all               []*cpuGroup
}

// newCPUGroups makes them under the root of the hierarchy with the controller cpu.
func newCPUGroups() (g cpuGroups, err error) {
	root := &cpuGroup{path: "/sys/fs/cgroup/cpu"}
	if _, err := os.Stat(filepath.Join(root.path, "cpu.shares")); err != nil {
		root = &cpuGroup{path: "/sys/fs/cgroup", unified: true}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.remove())
		}
	}()
	all := sharesOfCore * runtime.NumCPU()
	ours := ringNodes * sharesOfCore * announcerRequest / 1000
	make := func(in *cpuGroup, name string, shares int) *cpuGroup {
		made := &cpuGroup{filepath.Join(in.path, name), in.unified}
		if err == nil {
			err = in.divide(made, shares)
			g.all = append(g.all, made)
		}
		return made
	}
	g.top = make(root, fmt.Sprintf("bench-%d-kubepods", os.Getpid()), all)
	burstable := make(g.top, "burstable", all)
	g.announcer = make(make(burstable, "announcer", ours), "container", ours)
	g.others = make(make(burstable, "others", all-ours), "container", all-ours)
	return g, err
}

// divide makes a group below g with so many shares of cgroup v1.
func (g *cpuGroup) divide(below *cpuGroup, shares int) error {
	if g.unified {
		if err := os.WriteFile(filepath.Join(g.path, "cgroup.subtree_control"), []byte("+cpu"), 0o644); err != nil {
			return err
		}
	}
	if err := os.Mkdir(below.path, 0o755); err != nil {
		return err
	}
	name, value := "cpu.shares", shares
	if g.unified { // As runtimes convert it: KEP 2254.
		name, value = "cpu.weight", 1+(shares-2)*9999/262142
	}
	return os.WriteFile(filepath.Join(below.path, name), []byte(strconv.Itoa(value)), 0o644)
}

// remove removes the groups, which must be empty.
func (g cpuGroups) remove() error {
	var failed []error
	for i := range g.all {
		err := os.Remove(g.all[len(g.all)-1-i].path)
		if !errors.Is(err, os.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// enter has cmd run in the group.
func (g *cpuGroup) enter(cmd *exec.Cmd) {
	if g == nil {
		return
	}
	script := fmt.Sprintf(`echo $$ >%s/cgroup.procs; exec "$@"`, g.path)
	cmd.Args = append([]string{"sh", "-c", script, "sh"}, cmd.Args...)
	cmd.Path, cmd.Err = "/bin/sh", nil
}
