# Where rustup puts cargo, for shells that do not know.
export PATH := $(PATH):$(HOME)/.cargo/bin

CONFIG ?= config.toml

# What meets most of the store: with it on PostgreSQL, this part runs with every `make test`.
STORE_TESTS = spine:: in_doubt:: storm:: acts::taking acts::silencing reload:: store_stress:: \
	incidents:: dead_letters::

.PHONY: help tools build image deb release picture demo rules helm test test-unit test-it test-postgres test-long test-dendrite chaos bench fuzz lint audit docs sign workflows soak functions test-cluster fmt run clean
.DEFAULT_GOAL := help

help: ## Lists these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

tools: ## Installs Synapse, PostgreSQL, PgBouncer, Prometheus, Alertmanager, Loki, kustomize, Chromium and a C compiler where they are missing (root or sudo)
	@scripts/tools

build: ## Builds the receiver as it is deployed (release profile, about 11 min cold on two cores)
	cargo build --locked --release

image: ## Builds the container image and starts it once; stand-ins for base images that cannot be pulled (root)
	@exec scripts/image

deb: ## Builds the Debian package, with cargo-deb installed into .tools; BINARY=path: of that one
	@exec scripts/deb

release: ## Makes dist/ from committed sources: archive, Debian package and bill of materials for amd64 and arm64, SHA256SUMS (ARCHS=amd64: one; DIRTY=1 to try it out; BINARY=path)
	@exec scripts/release

sign: ## Signs dist/SHA256SUMS with the SSH key in SIGN_KEY_FILE (docs/RELEASING.md)
	@exec scripts/sign

workflows: ## Checks the workflows in .github/ and .forgejo/; builds actionlint with Go where Go is there (a minute, once), else skipped
	@scripts/workflows || { code=$$?; [ $$code -eq 3 ] || exit $$code; }

picture: tools ## Makes docs/card.png, docs/status.png and docs/graph.png: cards, the status page and a graph, as they are (root, for the browser; 5 min)
	@exec scripts/picture

demo: tools ## Shows one alert all the way into a Matrix room, then stays up to play with; ONCE=1: ends there; VERBOSE=1: shows the bodies of messages too
	@exec /usr/bin/python3 -B scripts/demo

rules: tools ## Makes what is generated in deploy/prometheus/, and runs the cases of the alert rules
	@scripts/rules
	promtool check rules --lint=all --lint-fatal deploy/prometheus/rules.yaml
	promtool test rules deploy/prometheus/tests/*.yaml
	amtool check-config deploy/prometheus/alertmanager.yml

helm: tools ## Checks the Helm chart in deploy/helm/; builds Helm with Go where Go is there (2 min, once), else skipped
	@scripts/helm || { code=$$?; [ $$code -eq 3 ] || exit $$code; }

test: tools lint helm ## Everything: format, lints, the Helm chart, all tests against real servers; those of the store on PostgreSQL as well
	cargo test --locked
	scripts/with-postgres cargo test --locked --lib
	MAR_TEST_STORE=postgres cargo test --locked --test it -- $(STORE_TESTS)

test-unit: ## Only the tests beside the code: no servers, seconds when warm
	cargo test --locked --lib

test-it: tools ## Tests against real servers, FILTER=rooms:: for those whose name holds that
	cargo test --locked --test it $(FILTER)

test-postgres: tools ## All tests against real servers with the store on PostgreSQL, and a part of them through PgBouncer (20 min); FILTER=rooms:: for some
	MAR_TEST_STORE=postgres cargo test --locked --test it $(FILTER)
	MAR_TEST_STORE=pgbouncer cargo test --locked --test it -- $(or $(FILTER),$(STORE_TESTS))

test-long: tools ## What takes minutes by its nature: sixty cards that turn green under Synapse's default limits (5 min), large groups (8 min), an Alertmanager that stays away (2 min), a card held up for as long as its evidence may take (3 min)
	cargo test --locked --test it storm::sixty -- --ignored --nocapture
	cargo test --locked --test it memory:: -- --ignored --nocapture --test-threads 1
	cargo test --locked --test it acts:: -- --ignored --nocapture
	cargo test --locked --test it evidence:: -- --ignored --nocapture

test-dendrite: tools ## The tests that meet most of the homeserver on Dendrite, another one, FILTER=storm:: for some: built with Go where Go is there (2 min, once), else skipped
	@scripts/dendrite test $(FILTER) || { code=$$?; [ $$code -eq 3 ] || exit $$code; }

test-cluster: ## Manifests and Helm chart on a real Kubernetes API server, etcd and controllers: built with Go where Go is there (5 to 8 min, once), else skipped
	@scripts/cluster || { code=$$?; [ $$code -eq 3 ] || exit $$code; }

chaos: tools ## Faults and kill -9 under load for 10 min, then of two and three replicas the leader twenty times (10 min); SECONDS=60 for how long the first, SEED=7 to repeat a run
	cargo test --locked --test it chaos::for_long -- --ignored --nocapture
	cargo test --locked --test it replicas::kills::for_long -- --ignored --nocapture

functions: tools ## Finds out which functions a start runs, for the linker to put them side by side (.cargo/functions.txt): less idle memory; before a release (Valgrind)
	@exec scripts/functions

soak: tools ## An hour with everything on and faults at times: whether memory, file or descriptors grow (release build); MINUTES=6 to try it out, BINARY=path: of that one
	@exec /usr/bin/python3 -B scripts/soak

bench: tools ## Figures beside their baselines, release profile, about 10 min once built; QUICK=1: two, to try it out; ONLY=program,webhooks,databases,poll,graph,rooms,incidents,evidence,storm,memory: parts
	cargo bench --locked --bench receiver

fuzz: ## Looks for webhooks that break intake or rendering, FUZZ_SECONDS=60 for each target (nightly Rust, cargo-fuzz)
	@exec scripts/fuzz

lint: ## Format, lints, unused dependencies and typos
	@scripts/lint-tools
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	.tools/lint/bin/cargo-machete --skip-target-dir .
	.tools/lint/typos/bin/typos

audit: ## Licences, sources and advisories of what we depend on, with cargo-deny installed into .tools (needs github.com; ADVISORIES=0: not those)
	@exec scripts/audit

docs: ## Builds the pages as a site with search, and checks its links and that it fits a phone (mdBook, built once with cargo: 4 min)
	@exec /usr/bin/python3 -B scripts/docs

fmt: ## Formats the code
	cargo fmt

run: ## Runs the receiver with CONFIG=config.toml
	cargo run --locked -- serve --config $(CONFIG)

clean: ## Removes all that was built or installed into this folder
	cargo clean
	rm -rf .tools .demo dist target/docs
