# Run `make help`. Every target works on a fresh Debian or Ubuntu machine, as root, after `git clone`.
SHELL := bash
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
IMAGE ?= lamina:dev

.DEFAULT_GOAL := help
.PHONY: help setup build generate lint format unit integration sanity operator e2e e2e-conformance test demo bench image clean

help: ## Say what the targets do.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is missing: tools by apt, npm packages, Node itself among them.
	@scripts/setup

build: setup ## Bundle the program into dist/, for bin/lamina.
	@node scripts/build.ts

generate: setup ## Generate src/gen from proto/csi.proto, crds/ and docs/users/api.md from src/api.
	@scripts/generate

lint: setup ## Check types, rules, the code map, format, unused code and generated files.
	@node scripts/test.ts lint

format: setup ## Format everything.
	@biome format --write

unit: setup ## Run the unit tests.
	@node scripts/test.ts unit

integration: build ## Run the tests with real QEMU, devices and file systems (root).
	@node scripts/test.ts integration

sanity: build ## Run CSI's conformance suite, csi-sanity, against the standalone driver (root).
	@node scripts/test.ts sanity

operator: build ## Run the tests with a real control plane and the CSI sidecars, where these are at hand (root).
	@node scripts/test.ts operator

e2e: build ## Tell the stories on a cluster of kind, where docker, kind, kubectl and helm are at hand. STORIES="killed pools" for some.
	@node scripts/test.ts e2e $(if $(STORIES),-- $(STORIES:%=test/e2e/%.test.ts))

e2e-conformance: build ## Run Kubernetes' own storage suite on kind; LAMINA_CONFORMANCE=smoke for a part, all for all of it. Takes e2e.test and ginkgo.
	@node scripts/test.ts conformance

test: build ## Set up, build, lint and run all tests; ends with the count of all.
	@node scripts/test.ts lint unit integration sanity operator

demo: build ## Tell the story with real data on a temporary pool, and check every byte (root).
	@scripts/demo

bench: build ## Measure against the targets; ONLY=fio runs one part (root). Results: build/bench.json.
	@scripts/bench ONLY="$(ONLY)"

image: ## Build the container image (IMAGE=lamina:dev); BUILD_ARGS goes to docker build.
	docker build $(BUILD_ARGS) -t $(IMAGE) .

clean: ## Remove everything that was built; setup and caches of the test machine stay.
	rm -rf dist build
