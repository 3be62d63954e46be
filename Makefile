# make help lists what there is. Everything is made under .venv, .venv-sanity, .cache and .lab; make clean removes it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

ROOT := $(CURDIR)
BIN := $(ROOT)/.venv/bin
TOOLS := tests/tools
LAB := tests/lab/lab
LINK := .venv/collections/ansible_collections/kvmops/fleet

export ANSIBLE_CONFIG := $(ROOT)/ansible.cfg
export PATH := $(BIN):$(PATH)

.PHONY: quick quick-tests quick-looks unit-rest fuzz help setup venv venv-sanity format lint types unit check sanity units docs-check build \
	integration preflight-page \
	test-crashes faults test-machines test-source molecule demo screenshot bench-rollout bench-domains bench-migrate bench-migrate-page \
	bench-p2v bench-p2v-page \
	lab-up lab-down test clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- set-up ---------------------------------------------------------------------------------------------------------

setup: venv ## install what is missing: packages, .venv, what the lab needs
	@[ ! -x tests/lab/setup ] || tests/lab/setup

venv:
	@$(TOOLS)/packages python3-venv python3-libvirt git shellcheck
	@$(TOOLS)/venv .venv tests/requirements.txt
	@mkdir -p $(dir $(LINK)) && ln -sfn ../../../.. $(LINK)

venv-sanity: venv
	@$(TOOLS)/venv .venv-sanity tests/requirements-sanity.txt

# --- quick: run it all day ------------------------------------------------------------------------------------------

check: lint types unit ## lint, types and unit tests: two minutes at most

format: venv ## let ruff write what make lint would complain about
	@ruff check --fix --quiet . || true
	@ruff format .

lint: venv ## ruff, yamllint, shellcheck, ansible-lint (production), vermin (Python 3.8 on managed hosts)
	ruff check .
	ruff format --check .
	yamllint --strict .
	vermin --quiet --no-tips --eval-annotations --violations --target=3.8- plugins/module_utils plugins/modules
	vermin --quiet --no-tips --violations --target=2.7 --target=3.4- plugins/module_utils/p2v_agent
	git grep -lE '^#!.*[ /](ba)?sh( |$$)' | xargs shellcheck --severity=warning --exclude=SC1007
	@# A home of its own: else it looks at a copy of the collection that an earlier run, perhaps of another clone, left.
	ANSIBLE_HOME=$(ROOT)/.cache/lint ansible-lint --strict

types: venv ## mypy strict on model/ and plan/
	mypy

unit: venv ## the decisions, in milliseconds
	@# loadgroup: one worker has the tests that take turns at loop devices, the others all the rest. Many wait more than they work.
	pytest tests/unit -n 4 --dist loadgroup

unit-rest: venv ## those of them that make units leaves out
	pytest tests/unit --ignore=tests/unit/plugins -n 2

fuzz: venv ## kvm_domain's parser and planner with arbitrary input, longer than in make unit: FUZZ=20000
	FUZZ=$(or $(FUZZ),5000) pytest tests/unit/plugins/module_utils/model/test_domain_fuzz.py \
		tests/unit/plugins/module_utils/plan/test_domain_fuzz.py -n 2

# --- as others will judge it ----------------------------------------------------------------------------------------

sanity: venv-sanity ## ansible-test sanity, all tests, no ignores
	@$(TOOLS)/ansible-test sanity

units: venv-sanity ## the unit tests as ansible-test runs them
	@$(TOOLS)/ansible-test units --num-workers 4

docs-check: venv ## antsibull-docs on every plugin and role, antsibull-changelog on the fragments
	@cd "$$($(TOOLS)/tree docs)" && env -u ANSIBLE_CONFIG ANSIBLE_COLLECTIONS_PATH="$(ROOT)/.cache/tree/docs" \
		antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs self --disallow-unknown-collection-refs .
	antsibull-changelog lint

preflight-page: venv ## docs/preflight.md anew, from the catalogue in the code
	@python $(TOOLS)/preflight_page.py

build: venv-sanity ## the package, and what Galaxy's importer says about it
	@rm -rf .cache/build && mkdir -p .cache/build
	ansible-galaxy collection build --output-path .cache/build .
	@$(TOOLS)/import .cache/build/kvmops-fleet-*.tar.gz

# --- on real hosts --------------------------------------------------------------------------------------------------

integration: setup ## every module on lab hosts, then faults
	@# Two at a time, each with a lab of its own: most of a test is waiting for hosts.
	pytest tests/integration -m "not machine and not long" -v --durations=15 -n 2 --dist loadfile

test-source: setup ## QEMU and libvirt built from source on a bare host: half an hour
	pytest tests/integration/test_source_build.py -m long -v

test-crashes: setup ## kvm_migrate killed at every kind of moment, and the run after it (minutes)
	pytest tests/integration/test_kvm_migrate_watch.py tests/integration/test_kvm_migrate_recovery.py -v --durations=15

faults: setup ## kvm_migrate's fault campaign, into docs/faults.md (hours): ROUNDS=5 ONLY=M1,cut-all SEED= OS= FRESH=1
	PYTHONPATH=.venv/collections python -m ansible_collections.kvmops.fleet.tests.faults.campaign --rounds "$(or $(ROUNDS),5)" \
		--only "$(ONLY)" $(if $(SEED),--seed $(SEED)) $(if $(OS),--os $(OS)) $(if $(FRESH),--fresh)

test-machines: setup ## the lab's machines, with a kernel of their own (minutes)
	pytest tests/integration -m machine -v --durations=15

molecule: setup ## the roles on bare hosts, and the two-host journey
	molecule test --all

demo: setup ## the main job on three real hosts, start to end
	@tests/demo/demo

screenshot: setup ## docs/images/virt-manager.png anew, from virt-manager on a lab host with two hypervisors
	@tests/demo/virt_manager

bench-rollout: setup ## what a rollout costs, first and later runs, as docs/benchmarks/rollout.md
	@mkdir -p docs/benchmarks && python tests/bench/rollout.py --write docs/benchmarks/rollout.md

bench-domains: setup ## what a hundred domains cost in one task, beside a loop and virsh, as docs/benchmarks/domains.md; ROUNDS=3
	@python -m tests.bench.domains $(or $(ROUNDS),3) --write docs/benchmarks/domains.md

bench-migrate: setup ## what a live move costs, beside virsh, as docs/benchmarks/migrate.md; ROUNDS=5 ONLY="idle busy2" ADD=1
	@python -m tests.bench.migrate run --rounds $(or $(ROUNDS),5) $(if $(ONLY),--only $(ONLY)) $(if $(ADD),--add)

bench-migrate-page: venv ## the page anew, from the numbers of the last runs
	@python -m tests.bench.migrate page

bench-p2v: setup ## what an image of a machine costs, beside dd and qemu-img, as docs/benchmarks/p2v.md; ROUNDS=5 ONLY="dd first" ADD=1
	@python -m tests.bench.p2v run --rounds $(or $(ROUNDS),5) $(if $(ONLY),--only $(ONLY)) $(if $(ADD),--add)

bench-p2v-page: venv ## the page anew, from the numbers beside it
	@python -m tests.bench.p2v page

lab-up: setup ## three hosts up and ready to look around
	@$(LAB) up --hosts 3 --os bookworm,bookworm,trixie

lab-down: ## take the lab down
	@[ ! -x $(LAB) ] || $(LAB) down

# --- everything -----------------------------------------------------------------------------------------------------

test: ## everything, cheap things first
	@$(TOOLS)/phases setup venv-sanity quick integration molecule

quick: ## all that needs no lab, two things at a time, every unit test once
	@$(MAKE) --jobs=2 --output-sync=target quick-tests quick-looks

quick-tests:
	@$(TOOLS)/phases units unit-rest docs-check build

quick-looks:
	@$(TOOLS)/phases lint types sanity

clean: lab-down ## remove all that make has made here
	rm -rf .venv .venv-sanity .cache .lab .ansible collections tests/output .hypothesis .mypy_cache .pytest_cache .ruff_cache
