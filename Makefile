# `make` alone explains the targets. Each one installs what it needs by itself, through
# apt-get and the Go module proxy, and keeps it in .cache/ and in Go's own caches.
SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

BIN     := .cache/bin
VERSION ?= v0.1.0-dev$(shell git describe --always --dirty --abbrev=9 2>/dev/null | sed 's/^/+/')
STAMP   := k8s.io/component-base/version
LDFLAGS := -s -w -X main.version=$(VERSION) -X $(STAMP).gitVersion=$(VERSION) -X $(STAMP).gitTreeState=unknown
TESTBED := go run ./test/e2e/cmd/testbed
# go test gives a package ten minutes: with the race detector on a slow machine too few for some.
UNIT    := go test -timeout 30m
E2E     := go test -tags e2e -count=1 -timeout 60m
# The shape of a testbed, see docs/architecture.md: make testbed-up DIR=/tmp/lan NODES=5
DIR     ?=
NODES   ?= 3
PROXY   ?= nftables
MGMT    ?= lan
EXTERNAL ?= no
ROUTERS  ?= no
WHAT    ?=
# What make bench measures, and how often: make bench ONLY=one,burst RUNS=1
ONLY    ?=
RUNS    ?= 3
QUOTE   ?=
# How long each half of `make chaos` goes on, and what it does, a new seed each time by default; DURATION also of `make bench ONLY=bfd,starved`.
# FAULTS picks kinds of faults by name, and then only they are injected: FAULTS='silent cut,cold start'
DURATION ?= 10m
SEED     ?=
FAULTS   ?=

##@ Try it
demo: root build testbed-deps ## a cluster on a LAN of network namespaces: create a Service, see who answers, request it, delete it
	@go run ./test/e2e/cmd/demo

##@ Check it
test: unit race e2e ## everything below that proves behaviour

unit: go programs ## unit tests, scenarios and guards
	@echo "==> unit tests"; $(UNIT) ./...

race: go programs ## the same under the race detector
	@hack/ensure race; echo "==> unit tests with the race detector"; CGO_ENABLED=1 $(UNIT) -race ./...

e2e: root build testbed-deps helm ## the programs with real Kubernetes components and real frames
	@echo "==> e2e tests"; SEED=$(or $(SEED),763296) hack/e2e

fresh: root go ## both of README's commands, in a minimal Debian that has make, git and Go: what nothing declares is missing there
	@hack/fresh bash -c 'make demo && make test'

lint: go ## gofmt, go vet and staticcheck
	@hack/gofmt-check; go vet -tags e2e ./...; go tool staticcheck -tags e2e ./...

verify: go ## generated files, manifests, Dockerfile, docs and go.mod are as they should be
	@hack/verify

vuln: go ## known vulnerabilities in both programs: fails for each that docs/security.md does not accept; SCAN=package is faster
	@SCAN=$(SCAN) VULNDB=$(VULNDB) hack/vuln

bench: root build testbed-deps ## the numbers of docs/performance.md; raw results in .cache/bench, QUOTE=yes writes them into the docs
	@go run ./test/bench --runs=$(RUNS) --only=$(ONLY) --duration=$(DURATION) $(if $(QUOTE),--quote)

bench-alternatives: root build testbed-deps ## the same of what Debian packages, where there is any: keepalived
	@hack/ensure alternatives; go run ./test/bench --runs=$(RUNS) --only=keepalived $(if $(QUOTE),--quote)

chaos: root build testbed-deps ## DURATION=10m SEED=n NODES=3|2 FAULTS=: faults on the wire and of every program, then random operations
	@echo "==> chaos: faults from a seed, one after the other, while an observer on the LAN sees who answers;"; \
	echo "    then random operations on Services and pools while the CCM's replicas stop, die and come back."; \
	DURATION=$(DURATION) SEED=$(SEED) NODES=$(NODES) FAULTS='$(FAULTS)' go test -tags e2e -count=1 -timeout 0 -v \
		-run '^TestChaos$$$(if $(FAULTS),,|^TestRandomOperations$$)' ./test/e2e

faults: root build testbed-deps ## the faults of test/e2e/fault_*, each as long as where it was found, not only until it shows
	@echo "==> faults at full length"; FAULTS_LONG=yes $(E2E) -p 1 -v -run '^TestFault' ./test/e2e 2>&1 | hack/progress

##@ Look around in a testbed
testbed-up: root dir build testbed-deps ## DIR=d NODES=3 PROXY=nftables|iptables MGMT=lan|separate EXTERNAL=no|yes ROUTERS=no|yes: boot one, then `source d/env`
	@$(TESTBED) up --dir=$(DIR) --nodes=$(NODES) --proxy=$(PROXY) --mgmt=$(MGMT) --external=$(EXTERNAL) --routers=$(ROUTERS)

testbed-stop testbed-start: root dir what ## DIR=d WHAT=ccm|apiserver|etcd|kube-proxy:node1|announcer:node1: stop and hold, or start again
	@$(TESTBED) $(@:testbed-%=%) --dir=$(DIR) --what=$(WHAT)

testbed-down: root dir ## DIR=d: remove every trace of it
	@$(TESTBED) down --dir=$(DIR)

##@ Build it
build: go ## both programs and the plugin for kubectl, into .cache/bin
	@for program in baremetal-ccm baremetal-announcer kubectl-baremetal; do \
		echo "==> building $$program"; \
		CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/$$program ./cmd/$$program; \
	done

generate: go ## protobuf code, generated docs and the chart's schema
	@hack/generate

image: ## both images, with docker, podman or buildah
	@VERSION=$(VERSION) hack/image

help:
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9 -]+:.*## / {printf "  make %-28s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

testbed-deps: root go programs
	@$(TESTBED) components

helm: go
	@$(TESTBED) helm

# Without root, tests that make network namespaces skip themselves, and need no programs.
programs:
	@[ "$$(id -u)" != 0 ] || hack/ensure testbed

go:
	@command -v go >/dev/null || { echo "Go is missing: install Go 1.26 or later and put it on the PATH, see https://go.dev/doc/install" >&2; exit 1; }

root:
	@[ "$$(id -u)" = 0 ] || { echo "make $(MAKECMDGOALS) makes network namespaces and needs root: run it as root or with sudo" >&2; exit 1; }

dir:
	@[ -n "$(DIR)" ] || { echo "say which testbed: make $(MAKECMDGOALS) DIR=/tmp/lan" >&2; exit 1; }

what:
	@[ -n "$(WHAT)" ] || { echo "say what: WHAT=ccm, apiserver, etcd, kube-proxy:NODE or announcer:NODE" >&2; exit 1; }

.PHONY: demo test unit race e2e fresh programs lint verify vuln bench bench-alternatives chaos build generate image help go root dir what
.PHONY: testbed-up testbed-stop testbed-start testbed-down testbed-deps helm
