# The verbs of everyday work; the building itself is Meson's. `make help` lists them.

BUILD ?= build
SECONDS ?= 60
CYCLES ?= 20
SEED ?= 1
ARGS ?=
PREFIX ?= /usr/local
T ?=

export BUILD

all: build

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r verb what; do \
	  printf '  make %-12s %s\n' "$$verb" "$$what"; done

build: ## programs and tests, in build/ (the default)
	@scripts/setup build
	@scripts/build $(BUILD) --prefix $(PREFIX)

demo: ## one node with the names of the world's cities; DEMO_EXIT=1 stops it after the samples
	@scripts/setup build
	@scripts/demo

cluster: ## three nodes on loopback as one cluster, with the same names; DEMO_EXIT=1 as above
	@scripts/setup build
	@scripts/cluster

test: ## every test but campaigns
	@scripts/setup build
	@scripts/test $(BUILD)

check: ## test, lint, sanitizers, short fuzzing: what continuous integration runs
	@scripts/setup check
	@scripts/check

lint: build ## layers, clang-format, clang-tidy, cppcheck, links
	@scripts/setup check
	@scripts/lint

format: ## rewrites the sources as .clang-format says
	@scripts/setup check
	@git ls-files -z '*.[ch]' | xargs -0 clang-format -i

coverage: ## which lines the tests run: build-coverage/coverage.html
	@scripts/setup check
	@scripts/coverage

docs: build ## links of all pages, and the samples of pages against a node
	@scripts/lint docs
	@scripts/samples README.md docs/reference/http.md

fuzz: ## one target: make fuzz T=name SECONDS=60
	@scripts/setup check
	@scripts/fuzz one "$(T)" "$(SECONDS)"

fuzz-short: ## every target, some minutes together
	@scripts/setup check
	@scripts/fuzz short

sim: build ## one simulated run of a cluster: make sim SEED=7 (ARGS=--trace)
	@$(BUILD)/test/campaign/simulate --seed $(SEED) $(ARGS)

kills: build ## three nodes killed again and again while words are written: make kills CYCLES=20 SEED=1
	@test/process/kills.py $(BUILD)/src/cmd/trifectad $(CYCLES) $(SEED)

faults: build ## five nodes with real faults, in namespaces and on disks of their own, as root: make faults SECONDS=60 SEED=1
	@scripts/setup faults
	@test/process/faults.py $(BUILD)/src/cmd/trifectad $(or $(SECONDS),60) $(SEED)

upgrade: ## a cluster of the newest release goes over to what is here, node by node and under load: make upgrade FROM=v0.1.0
	@scripts/setup
	@scripts/upgrade $(FROM)

scale: build ## a growing cluster, a healing one, and a thousand nodes, in simulation: make scale SEED=1
	@scripts/scale $(SEED)

campaign: ## fuzzing, an hour a target, then an hour of simulation, appended to docs/campaigns.md
	@scripts/setup check
	@scripts/fuzz campaign
	@scripts/campaign sim 1

bench: ## peers and trifecta side by side; rewrites the tables of docs/benchmarks.md
	@scripts/setup bench data
	@bench/run

data: ## fetches the benchmark's data sets into the cache
	@scripts/setup build data
	@scripts/data all

bare-check: ## both README commands in an empty Debian, as root
	@scripts/bare-check

install: build ## PREFIX=/usr/local, DESTDIR=
	@meson configure $(BUILD) --prefix $(PREFIX)
	@meson install -C $(BUILD)

clean: ## removes every build directory
	rm -rf build build-*

.PHONY: all help build demo cluster kills faults upgrade test check lint format coverage docs fuzz fuzz-short sim scale campaign \
	bench data bare-check install clean
