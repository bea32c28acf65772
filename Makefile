# What a developer runs; CI calls the same targets. `make` alone prints this list.
.DEFAULT_GOAL := help
.PHONY: help demo run check check-static check-core check-steps check-parts coverage fix test nightly crewai faults replicas soak mutants simulate proofs fuzz schemathesis bench bench-polling scale lock dist image clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60
# Two per core, because tests wait half of the time.
WORKERS ?= 4
CREWAI := build/crewai
# pytest keeps the tests that it has rewritten, whatever the environment says: it collects them in half the time.
unexport PYTHONDONTWRITEBYTECODE
SLOW_TESTS := tests/test_documents.py tests/contract tests/integration tests/simulation tests/system

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/runtime ## sandbox crew, bridge, and receiver in one process: kickoffs, live progress, completion events
	@$(BIN)/kickoff-bridge demo

run: $(VENV)/runtime ## run the daemon with bridge.yaml
	$(BIN)/kickoff-bridge run

check: $(VENV)/dev ## format, lint, types, import contracts, unit and component tests (seconds, no servers)
	@$(MAKE) --no-print-directory --jobs 4 --output-sync check-static check-steps check-parts check-core

check-static:
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

check-core:
	$(BIN)/pytest -q tests/unit

check-steps:
	$(BIN)/pytest -q tests/component/steps

check-parts:
	$(BIN)/pytest -q tests/component --ignore tests/component/steps tests/test_house.py tests/test_docs.py tests/test_vocabulary.py

coverage: $(VENV)/dev ## every branch of the core, by its unit tests alone (seconds)
	$(BIN)/pytest -q tests/unit --cov=bridge.core --cov-branch --cov-fail-under=100 --cov-report=

fix: $(VENV)/dev ## format the code and apply automatic fixes
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

test: $(VENV)/dev ## everything, with a real RabbitMQ and PostgreSQL (as root, installs their packages if missing)
	@$(MAKE) --no-print-directory --jobs 4 --output-sync check-static coverage check-steps check-parts
	sh tests/need-servers.sh
	$(BIN)/pytest -q -n $(WORKERS) --dist worksteal $(SLOW_TESTS)

nightly: $(VENV)/dev ## every proof at full numbers (hours): repeated proofs, and most targets below
	sh tests/need-servers.sh
	-$(MAKE) crewai
	FAULTS=full $(BIN)/pytest -q -n $(WORKERS) --dist worksteal tests/unit tests/component
	FAULTS=full $(BIN)/pytest -q -n $(WORKERS) --dist worksteal -m nightly --ignore tests/system/faults $(SLOW_TESTS)
	$(MAKE) --keep-going faults replicas soak mutants simulate proofs fuzz schemathesis

crewai: $(CREWAI)/installed ## install the crewai library for tests/system/interop/test_real_crew.py, apart from the bridge (1 GB)

faults: $(VENV)/dev ## the whole fault suite at full numbers (an hour); SEED=17 repeats a run
	sh tests/need-servers.sh
	FAULTS=full $(BIN)/pytest -q -n 2 --dist worksteal tests/system/faults

replicas: $(VENV)/dev ## several bridges at full numbers: kills, suspension, duplicates, a failing database, moving (half an hour)
	sh tests/need-servers.sh
	FAULTS=full $(BIN)/pytest -q -s tests/system/faults/test_replicas.py
	RUNS=50000 $(BIN)/pytest -q -s tests/system/acceptance/test_store_copy.py

MINUTES ?= 30
soak: $(VENV)/dev ## load and faults for MINUTES=30
	sh tests/need-servers.sh
	SOAK_MINUTES=$(MINUTES) $(BIN)/pytest -q -s tests/system/faults/test_soak.py

mutants: $(VENV)/dev ## break each promise on purpose and require a test to fail
	sh tests/need-servers.sh
	$(BIN)/python -m tests.mutants

SEEDS ?= 10000
simulate: $(VENV)/dev ## simulated histories with crashes and faults; SEEDS=10000, or SEED=17 to repeat one
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

proofs: $(VENV)/dev ## every broken response of the crew API, 50 times each (a minute or two)
	BRIDGE_TEST_REPEATS=50 $(BIN)/pytest -q -n 2 tests/integration/test_crew_api_faults.py

fuzz: $(VENV)/dev ## 20,000 bodies and header sets for each entry point (minutes)
	BRIDGE_FUZZ=20000 $(BIN)/pytest -q -s tests/integration/test_fuzz.py

schemathesis: $(VENV)/dev ## 200 generated calls of each operation of openapi.json, and sequences of them (minutes)
	BRIDGE_SCHEMATHESIS=200 $(BIN)/pytest -q tests/integration/test_published_openapi.py

bench: $(VENV)/dev ## requests per second, lag and polls per run; the bridge compared with others; CPU of each step (20 minutes)
	sh tests/need-servers.sh
	$(BIN)/python -m bench.end_to_end
	$(BIN)/python -m bench.throughput --tls --picture docs/throughput.svg
	$(BIN)/python -m bench.steps

scale: $(VENV)/dev ## 100,000 runs in one process, few runs next to many, a crew that refuses for a minute (six minutes)
	$(BIN)/python -m bench.outstanding
	$(BIN)/python -m bench.fairness
	$(BIN)/python -m bench.refusals

bench-polling: $(VENV)/dev ## what polls cost and gain, compared with other policies (many minutes)
	$(BIN)/python -m bench.polling --picture docs/polling.svg
	$(BIN)/python -m bench.learned
	$(BIN)/python -m bench.end_lag

RESOLVE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
    --python-version 3.11
lock: $(VENV)/dev ## resolve the dependencies into requirements*.txt
	$(RESOLVE) --upgrade pyproject.toml -o requirements.txt
	$(RESOLVE) --upgrade --constraints requirements.txt requirements-build.in -o requirements-build.txt
	$(RESOLVE) --upgrade --constraints requirements.txt --constraints requirements-build.txt --no-strip-extras --extra dev --extra otel \
	    pyproject.toml -o requirements-dev.txt
	cd tests/system/interop/real_crew && $(CURDIR)/$(BIN)/uv pip compile --quiet --universal --no-annotate --no-header \
	    --no-emit-index-url --no-emit-find-links --python-version 3.11 requirements.in -o requirements.txt

dist: $(VENV)/dev ## build the wheel and the source distribution into dist/
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/twine check --strict dist/*

image: ## build the container image (needs a Docker engine)
	docker build --tag kickoff-bridge .

clean: ## remove what these targets created
	rm -rf $(VENV) build dist bench/out .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/system/interop/node_modules

$(VENV)/runtime: requirements.txt pyproject.toml
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo "Installing the bridge's $$(grep -c == requirements.txt) libraries there (only this time; about half a minute)"
	@$(PIP) --require-hashes -r requirements.txt -r requirements-build.txt
	@echo "Installing the bridge"
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(CREWAI)/installed: tests/system/interop/real_crew/requirements.txt
	$(PYTHON) -m venv $(CREWAI)
	$(CREWAI)/bin/python -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 -r $<
	@touch $@

$(VENV)/dev: $(VENV)/runtime requirements-dev.txt
	$(PIP) --require-hashes -r requirements-dev.txt
	@touch $@
