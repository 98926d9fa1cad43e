package measure

import (
	"go/ast"
	"regexp"
	"strings"

	"golang.org/x/tools/go/packages"
)

// question is one that a newcomer asks; the file of the function that answers it has a name in
// which the question's noun can be found.
type question struct {
	text string
	noun *regexp.Regexp
	// functions are where the answer is, as "package.Name" without receivers: the first that there is.
	functions []string
}

var questions = []question{
	{"where ARP decides", regexp.MustCompile(`arp`), []string{"pkg/announcer/l2/arp.Decide", "pkg/announcer/l2/arp.Decide"}},
	{"an address is chosen", regexp.MustCompile(`address|assign|alloc`), []string{"pkg/ipam.Assign"}},
	{"an owner is placed", regexp.MustCompile(`owner|place`), []string{"pkg/loadbalancer/placement.chooseOwner", "pkg/loadbalancer.chooseOwner", "pkg/loadbalancer.choose"}},
	{"a takeover is decided", regexp.MustCompile(`takeover|election`), []string{"pkg/announcer/failover.Decide", "pkg/announcer/failover.Decide"}},
	{"status is written", regexp.MustCompile(`status`), []string{"pkg/cloud.writeStatus"}},
	{"a token is verified", regexp.MustCompile(`token`), []string{"pkg/cloud/auth.Authenticate", "pkg/cloud/auth.Authenticate"}},
	{"a BGP path is made", regexp.MustCompile(`path`), []string{"pkg/announcer/bgp.pathTo"}},
}

// answer returns the file that answers q, with its package, and whether its name says so.
func (q question) answer(loaded []*packages.Package) (file string, found bool) {
	for _, name := range q.functions {
		if file := declaredIn(loaded, name); file != "" {
			return file, q.noun.MatchString(file[strings.LastIndexByte(file, '/')+1:])
		}
	}
	return "none", false
}

// declaredIn returns the file that declares the function or method "package.Name".
func declaredIn(loaded []*packages.Package, qualified string) string {
	for _, p := range loaded {
		function, ok := strings.CutPrefix(qualified, short(p)+".")
		if !ok {
			continue
		}
		for _, f := range p.Syntax {
			for _, d := range f.Decls {
				if d, ok := d.(*ast.FuncDecl); ok && d.Name.Name == function {
					return short(p) + "/" + fileOf(p, f)
				}
			}
		}
	}
	return ""
}
