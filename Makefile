# The two commands of this project are `make demo` and `make test`.
SHELL := /bin/bash
STATIC := target/static
LIFECYCLE := $(STATIC)/x86_64-unknown-linux-gnu/release/lifecycle
ONLY ?=
ENGINE ?=

# Of `make fuzz`: how many inputs each property gets. Its seed, and that of `make chaos`, is a random one, which is printed.
CASES ?= 200000
ifndef SEED
SEED := $(shell od -An -N4 -tu4 /dev/urandom | tr -d " ")
endif
N ?= 10
FROM ?= 1

# Of `make examples`: a folder of clones; without it, the repositories are fetched from their forge.
EXAMPLES ?=

.PHONY: demo stop clean-demo test test-all test-engines test-programs fuzz chaos examples check lint lifecycle release install-tools

demo: ## Shows the main job on real input; leaves everything running in .demo/
	@demo/demo

stop: ## Stops the processes that `make demo` started
	@demo/stop

clean-demo: ## Removes every trace of the demo
	@demo/clean

lifecycle: ## The static binary that runs in build containers and app images
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --bin lifecycle --no-default-features \
	  --target x86_64-unknown-linux-gnu --target-dir $(STATIC)

release: lifecycle ## Release build: paas, lifecycle and buildpacks side by side in target/release
	cargo build --locked --release --bin paas
	ln -sfn ../static/x86_64-unknown-linux-gnu/release/lifecycle target/release/lifecycle
	ln -sfn $(CURDIR)/buildpacks target/release/buildpacks

install-tools: ## Installs the Debian packages that the demo and the tests need
	@demo/install-tools tests

test: test-programs ## All tests but the slow ones; of each language one sample. ONLY=push runs those with that in their name
	demo/with-engine tests/run $(if $(ONLY),only $(ONLY),quick)

test-all: test-programs ## All tests: every sample, a build without cache, every failing project
	demo/with-engine tests/run all

test-engines: test-programs ## The stories of tests/engines.list on each supported version of Docker. ENGINE=28.5-containerd, ONLY=push
	ENGINE='$(ENGINE)' ONLY='$(ONLY)' tests/engines

fuzz: ## The property tests of all parsers with many inputs, others each time. CASES=1000, SEED=7 repeats a run, ONLY=model::properties
	@echo "SEED=$(SEED) CASES=$(CASES)"
	PROPTEST_RNG_SEED=$(SEED) PROPTEST_CASES=$(CASES) cargo test --locked --lib -- $(or $(ONLY),properties::)

chaos: test-programs ## Random kills under load, N rounds of them. SEED=7 FROM=31 N=1 repeats round 31 of a run. ENGINE=own kills Docker, too; ONLY=engine
	N='$(N)' FROM='$(FROM)' SEED='$(SEED)' ENGINE='$(ENGINE)' ONLY='$(ONLY)' \
	  $(if $(ENGINE),tests/engines chaos,demo/with-engine tests/run exactly chaos::whatever_is_killed_all_that_was_acknowledged_is_there)

examples: test-programs ## The example projects of tests/examples.toml. EXAMPLES=DIR has clones, DIR/OWNER/NAME; ONLY=django
	EXAMPLES='$(abspath $(EXAMPLES))' ONLY='$(ONLY)' \
	  demo/with-engine tests/run exactly example_projects::all_answer_but_those_with_a_reason

test-programs: install-tools lifecycle
	cargo build --locked --bin paas

check: ## Formatting, clippy, documentation and shell scripts
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --locked --no-deps --lib --document-private-items
	shellcheck -x $(filter-out %.in,$(wildcard demo/*)) hooks/* tests/run tests/engines $(wildcard benches/*.sh) .ci/run buildpacks/*/bin/* \
	  $(addprefix buildpacks/,deno/lib/address nodejs/lib/corepack nodejs/lib/make-assets php/lib/memory-limit php/lib/serve-php rust/lib/rocket-port static/serve-static)

lint: check ## The same and the dependencies; requires `cargo install cargo-deny cargo-machete`
	cargo machete
	cargo deny --log-level error check bans licenses sources
