# What people and CI run by name. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := bash

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Most tests wait for processes that they started: twice as many at a time take little more than half the time.
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc 2>/dev/null || echo 2))))

# A script of steps rather than prerequisites: `make -j test` would run them at once, and cargo's lock would only make them wait.
.PHONY: test
test: ## Everything that must pass before a change lands
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory lint
	@scripts/deny --if-there
	TESTKIT_BUILT=1 cargo test --workspace --locked
	@$(MAKE) --no-print-directory test-hyper
	@scripts/browser
	@$(MAKE) --no-print-directory doc

# What is left out opens no stream (the layers, the brokers below the hub), asks for names and not for bytes (monitoring), has proxies in front, or
# has a gateway on each lane anyway.
ON_BOTH_LANES := layers broker_contract catch_up lanes::answers lanes::heads lanes::splitting lanes::pipelining::in_one_segment \
	lanes::smuggling auth::table auth::keys redis_acl leases tls:: operator:: monitoring load_balancers
.PHONY: test-hyper
test-hyper: ## The end-to-end tests again, with every gateway on the hyper lane
	TESTKIT_BUILT=1 SSE_GATEWAY__LANES__DIRECT=false cargo test --workspace --test gateway --locked -- $(addprefix --skip ,$(ON_BOTH_LANES))

.PHONY: browser
browser: ## Drive Chromium through the demo pages and the protocol; TESTS="answer tabs" for some of it
	@$(MAKE) --no-print-directory setup
	cargo build --workspace --bins --locked
	@scripts/browser $(TESTS)

.PHONY: setup
setup: ## Install what the tests need and this machine lacks (Debian, as root; elsewhere it says what is missing)
	@scripts/setup-tests

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all

.PHONY: lint
lint: ## Check the format, what runs it elsewhere (k8s, compose), and run clippy; a warning is an error
	@k8s/check
	@scripts/containers
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: doc
doc: ## Build the documentation; a warning is an error
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

.PHONY: run
run: ## Run one gateway by itself
	cargo run --release -p gateway

.PHONY: cluster
cluster: ## Run Redis, two gateways, the publisher, nginx and Prometheus, until Ctrl-C; REDIS=sentinel with a replica and three Sentinels, REDIS=cluster with a Redis Cluster of six
	@$(MAKE) --no-print-directory setup
	cargo build --release --locked -p gateway -p publisher
	@scripts/cluster

# What takes minutes, and looks from outside: clients that others wrote, proxies, restarts. A line for each.
.PHONY: test-long
test-long: ## Everything that takes minutes; `make test` has none of it
	cargo test -p gateway --test gateway --locked -- --ignored
	@$(MAKE) --no-print-directory interop
	@$(MAKE) --no-print-directory rolling
	@$(MAKE) --no-print-directory resume-model
	@$(MAKE) --no-print-directory chaos ROUNDS=100

# The rules of resuming against a simulated Redis, in any interleaving. `make test` has a few thousand cases of it.
RESUME_CASES ?= 1000000
.PHONY: resume-model
resume-model: ## RESUME_CASES=1000000 random histories of publishing, faults and clients that come back
	RESUME_CASES=$(RESUME_CASES) cargo test -p gateway --lib --locked connection::tests::resume -- --nocapture

.PHONY: interop
interop: ## Clients that others wrote resume while nodes are killed
	@$(MAKE) --no-print-directory setup
	cargo build --release --locked -p gateway -p publisher
	@scripts/interop

.PHONY: rolling
rolling: ## Rolling restarts behind nginx and HAProxy under 2,000 clients
	@$(MAKE) --no-print-directory setup
	cargo build --release --locked -p gateway -p publisher
	@scripts/rolling

ROUNDS ?= 20
.PHONY: chaos
chaos: ## Break a cluster ROUNDS=20 times, by SEED=n to repeat a run, LANES=direct for one lane, REDIS=sentinel or cluster; look for lost or repeated events
	@$(MAKE) --no-print-directory setup
	cargo build --release --locked -p gateway -p chaos
	target/release/sse-chaos --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED)) $(if $(LANES),--lanes $(LANES)) $(if $(REDIS),--redis $(REDIS))

# The gateway is built by itself: together, it would get features of libraries that only the naive server wants.
define build-bench
@command -v redis-server >/dev/null || { echo "redis-server is missing: make setup" >&2; exit 1; }
cargo build --release --locked -p gateway
cargo build --release --locked -p loadtest
endef

.PHONY: bench
bench: ## Measure the gateway beside two baselines, an hour; QUICK=1 in ten minutes, ROWS=broadcast,memory some of it
	$(build-bench)
	target/release/sse-bench $(if $(QUICK),--quick) $(if $(ROWS),--rows $(ROWS))

N ?= 1000000
.PHONY: million
million: ## Open N=1000000 event streams on this machine, or as many as its memory holds, with an event for each
	$(build-bench)
	target/release/sse-bench million --connections $(N)

.PHONY: spread
spread: ## Deliveries with one, two and three primaries of a Redis Cluster, each kept to a share of a core (as root)
	cargo build --release --locked -p gateway
	@scripts/spread

.PHONY: deny
deny: ## Check dependencies: advisories, licences, bans, sources; installs cargo-deny below target
	@scripts/deny

TARGET ?=
SECONDS ?= 300
.PHONY: fuzz
fuzz: ## Have libFuzzer look for bytes that break a reader, SECONDS=300 for each target, or TARGET=head for one
	@scripts/fuzz "$(TARGET)" "$(SECONDS)"
