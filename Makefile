# make demo    a cluster that heals itself, on this machine
# make test    unit, transcripts, store contract, integration with real PostgreSQL and etcd
# make help    the rest
SHELL := /bin/bash
GO ?= go
PKGS := ./...
# Suites that start whole clusters run one after the other: each has many of them at once, and fills a small machine.
WHOLE := ./internal/demo ./test/...
UNIT = $(shell $(GO) list ./... | grep -v -e /internal/demo -e regent/test/)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w
# test/kube without box, which needs all of Kubernetes compiled: minutes. Its compiled parts are shared with box, by -trimpath.
KUBE := . ./machine ./image ./deploy ./scenario
# A static binary: no C, so that it runs in any container and any chroot.
export CGO_ENABLED = 0

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: build
build: ## bin/regent, and bin/patroni and bin/patronictl that point to it
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/regent ./cmd/regent
	@ln -sf regent bin/patroni
	@ln -sf regent bin/patronictl

.PHONY: demo
demo: deps build ## a cluster of two that loses its leader, and heals
	bin/regent demo --script

.PHONY: deps
deps: ## what this machine lacks, from the distribution: PostgreSQL
	@scripts/deps postgresql

.PHONY: test-deps
test-deps:
	@scripts/deps postgresql iproute2 etcd zookeeper consul patroni patroni-consul haproxy pgbouncer keepalived

.PHONY: test
test: test-deps build ## unit, transcripts, store contract, integration
	$(GO) test -timeout 30m $(UNIT)
	$(GO) test -timeout 40m -p 1 $(WHOLE)
	@if why=$$(test/kube/run built 2>&1); then $(MAKE) --no-print-directory kube-contract; else echo "left out: the store's contract on a real API server: $$why"; fi

.PHONY: race
race: ## the same under the race detector, without the simulator, which has one goroutine
	@scripts/deps postgresql iproute2 etcd zookeeper gcc
	CGO_ENABLED=1 $(GO) test -race -timeout 40m $(filter-out %/internal/sim %/internal/sim/explore,$(UNIT))

.PHONY: lint
lint: ## vet, staticcheck, formatting
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'not formatted:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet $(PKGS)
	$(GO) tool staticcheck $(PKGS)
	cd test/kube && $(GO) vet -trimpath $(KUBE) && GOFLAGS=-trimpath $$($(GO) -C ../.. tool -n staticcheck) $(KUBE)

.PHONY: check
check: lint test race ## all that a change must pass

.PHONY: transcripts
transcripts: ## rewrite the transcripts of decisions; then read the diff
	$(GO) test ./internal/ha -rewrite

.PHONY: soak
soak: deps build ## the demo's script ROUNDS times (default 50)
	bin/regent demo --script --rounds $(or $(ROUNDS),50)

.PHONY: sim
sim: ## SEEDS schedules of faults in virtual time (default 10000), FROM=… the first; SIM="--members 5 …"
	$(GO) build -o bin/sim ./test/sim
	bin/sim --seeds $(or $(SEEDS),10000) --from $(or $(FROM),0) $(SIM)

.PHONY: mutations
mutations: ## one mistake after the other in the core: each must be found by the simulator; MUTATIONS=--check plays the seeds of docs/PROOF.md
	$(GO) run ./test/mutations $(MUTATIONS)

.PHONY: guard
guard: test-deps ## ROUNDS of frozen and killed agents with sessions that write (default 100); GUARD=-without shows what happens without
	$(GO) test ./test/guard -count=1 -v -timeout 60m -args -rounds $(or $(ROUNDS),100) $(GUARD)

.PHONY: chaos-program
chaos-program:
	$(GO) build -o bin/chaos ./test/chaos

.PHONY: chaos
chaos: test-deps build chaos-program ## faults on real processes for MINUTES (default 20) in MODE async, sync, quorum or failsafe, SEED=… to repeat, CHAOS="--only …"; needs root
	bin/chaos can
	bin/chaos run --agent bin/regent --minutes $(or $(MINUTES),20) --mode $(or $(MODE),async) $(if $(SEED),--seed $(SEED)) $(CHAOS)

.PHONY: kube-build
kube-build: ## Kubernetes for "make kube", once: ten minutes of processor time
	test/kube/run build

.PHONY: kube
kube: kube-control kube-node ## Regent on a real Kubernetes: store, chart, pods that are killed DELETIONS times and more (default 20); needs root

.PHONY: kube-control
kube-control: kube-contract ## the part of it that needs no node and no root: store and chart
	cd test/kube && $(GO) test -trimpath ./machine ./image
	cd test/kube && ./run control -- $(GO) test -trimpath -count=1 ./deploy

.PHONY: kube-contract
kube-contract:
	test/kube/run control -- $(GO) test -count=1 -timeout 20m -run OnKubernetes ./internal/dcs/kubernetes

.PHONY: kube-node
kube-node:
	cd test/kube && REGENT_KUBE_DELETIONS=$(or $(DELETIONS),20) ./run node -- $(GO) test -trimpath -count=1 -v -timeout 60m ./scenario

.PHONY: bench-proxy
bench-proxy: ## what a connection costs through regent proxy, through HAProxy and without either; ROUTE="-rounds 5 -length 1s"
	@scripts/deps haproxy
	$(GO) run ./test/bench/route $(ROUTE)

.PHONY: bench
bench: build ## side by side with Patroni on the same etcd
	$(GO) run ./test/bench $(BENCH)

.PHONY: test-versions
test-versions: build ## the integration tests on PostgreSQL 13, 17 and 18, and mixed clusters with Patroni 4 (PG="13 17 18")
	@scripts/deps debootstrap
	test/versions/run $(or $(PG),13 17 18)

# Debian wants a version to begin with a digit.
PACKAGE_VERSION = $(or $(patsubst v%,%,$(shell git describe --tags --match 'v*' 2>/dev/null)),0.1.0+$(VERSION))
PACKAGES := amd64/deb amd64/rpm arm64/deb arm64/rpm

.PHONY: packages
packages: $(addprefix package/,$(PACKAGES)) ## deb and rpm for amd64 and arm64, in dist/; one of them: make package/amd64/deb
.PHONY: $(addprefix package/,$(PACKAGES))
$(addprefix package/,$(PACKAGES)): arch = $(patsubst %/,%,$(dir $(@:package/%=%)))
$(addprefix package/,$(PACKAGES)):
	@mkdir -p dist/$(arch)
	GOOS=linux GOARCH=$(arch) $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o dist/$(arch)/regent ./cmd/regent
	ARCH=$(arch) VERSION='$(PACKAGE_VERSION)' BINARY=dist/$(arch)/regent SOURCE_DATE_EPOCH=$(shell git log -1 --format=%ct) \
		$(GO) tool -modfile=packaging/nfpm.mod nfpm package --config packaging/nfpm.yaml --packager $(notdir $@) --target dist/

.PHONY: test-packages
test-packages: package/amd64/deb package/amd64/rpm ## both on a bare Debian: install, start, kill, upgrade, stop, remove; needs root
	@scripts/deps iproute2 rpm vip-manager
	@mkdir -p dist/next
	set -e; for kind in deb rpm; do \
		ARCH=amd64 VERSION=99.0.0 BINARY=dist/amd64/regent SOURCE_DATE_EPOCH=$(shell git log -1 --format=%ct) \
			$(GO) tool -modfile=packaging/nfpm.mod nfpm package --config packaging/nfpm.yaml --packager $$kind --target dist/next/regent.$$kind; \
		test/packages/run "$$(ls -t dist/*.$$kind | grep -E 'amd64|x86_64' | head -n 1)" dist/next/regent.$$kind; \
	done
