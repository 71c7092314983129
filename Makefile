# Thin: each target is one line into cargo or the CLI. `.ci/tools` finds or installs what a target stands on.
PROGRAMS := -p domicile -p domicile-agent -p domicile-router -p domicile-writer -p domicile-reader
CLUSTER  := .ci/tools postgres etcd --

.DEFAULT_GOAL := help
.PHONY: help build release demo up down status test unit system chaos crash-points lint fmt bench rtp

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

build: ## the programs
	cargo build $(PROGRAMS)

release: ## the programs as they are shipped
	cargo build --release $(PROGRAMS)

demo: build ## the whole path on this machine: three regions, rounds, proofs, a region lost and back; cleans up after itself
	cargo build -p domicile-tests --bin domicile-wallet-simulator
	$(CLUSTER) target/debug/domicile demo

up: build ## start the demo topology and leave it running
	$(CLUSTER) target/debug/domicile up

down: build ## stop it and delete its data
	target/debug/domicile down --purge

status: build ## how it is
	target/debug/domicile status

test: lint unit system ## everything

unit: ## tests that need no cluster
	.ci/tools nextest postgres etcd chromium -- cargo nextest run --workspace

system: build ## tests on real clusters
	.ci/tools nextest postgres postgres-tls etcd -- cargo nextest run --workspace --profile system

chaos: build ## faults on a running system, judged from outside (8 minutes)
	cargo build -p domicile-chaos
	$(CLUSTER) target/debug/domicile-chaos suite smoke

crash-points: build ## every plan killed before and after each step, on real processes (over an hour; goes on where it was)
	cargo build -p domicile-chaos
	$(CLUSTER) target/debug/domicile-chaos crash-points

lint: ## format, lints, architecture, licences, documentation
	.ci/tools deny -- .ci/lint

fmt: ## format the code
	cargo fmt --all

rtp: ## ten million rounds of each game against the return it declares: before a release, and when outcomes change
	cargo test --release -p domicile-core --test return_to_player -- --include-ignored

bench: release ## figures beside their yardsticks, on a cluster of release builds (5 minutes after the build)
	.ci/tools postgres etcd haproxy -- cargo bench -p domicile-tests --bench yardsticks
