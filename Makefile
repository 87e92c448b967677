# `make help` lists the targets. Each one sets itself up: python3 (3.11 or newer) and make are all it needs.

.DEFAULT_GOAL := help
.SILENT:
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
UV := uv==0.13.9

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## list the targets
	awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# KEEP and SEED reach the demo through the environment: make hands on what its command line sets.
.PHONY: demo
demo: $(INSTALLED) ## a city in miniature, end to end (KEEP=1 leaves it running, SEED=n varies it)
	$(BIN)/python -m examples.city

.PHONY: demo-stop
demo-stop: $(INSTALLED) ## stop a demo that was left running
	$(BIN)/python -m examples.city stop

.PHONY: test
test: $(INSTALLED) ## every test: unit, component, store contract, end to end
	$(BIN)/python -m pytest -n 2 --dist loadscope tests

.PHONY: unit
unit: $(INSTALLED) ## unit tests: functions alone, no sockets and no files
	$(BIN)/python -m pytest -n 2 --dist loadscope tests/unit

.PHONY: component
component: $(INSTALLED) ## parts with their files and loops, and the store contract; no network
	$(BIN)/python -m pytest -n 2 --dist loadscope tests/component tests/store

.PHONY: e2e
e2e: $(INSTALLED) ## end-to-end tests, on loopback
	$(BIN)/python -m pytest -n 2 --dist loadscope tests/e2e

.PHONY: check
check: $(INSTALLED) ## what CI checks before the tests: style, types, imports, contract
	echo "== dependencies agree (pip check)"
	$(BIN)/python -m pip check
	echo "== style (ruff check)"
	$(BIN)/ruff check .
	echo "== format (ruff format)"
	$(BIN)/ruff format --check .
	echo "== types (mypy)"
	$(BIN)/mypy
	echo "== imports (import-linter)"
	$(BIN)/lint-imports --no-logo
	echo "== contract (buf lint)"
	$(BIN)/buf lint
	echo "== generated code (make proto leaves no difference)"
	$(BIN)/python -m tools.proto --check
	echo "== deploy/requirements.txt (tools.runtime_lock)"
	$(BIN)/python -m tools.runtime_lock --check
	if [ -e tests/vectors/__main__.py ]; then \
		echo "== test vectors"; \
		$(BIN)/python -m tests.vectors --check; \
	fi

.PHONY: crash
crash: $(INSTALLED) ## kill -9 under load, ROUNDS times (20); SEED=n draws the same
	$(BIN)/python -m tests.e2e.crash $(or $(ROUNDS),20) $(SEED)

.PHONY: attacks
attacks: $(INSTALLED) ## the numbered attacks, as a table: what was done, what found it, the exit code
	$(BIN)/python -m pytest -q tests/e2e/attacks

.PHONY: bench
bench: $(INSTALLED) ## measure throughput and latency
	$(BIN)/python -m bench

.PHONY: bench-decide
bench-decide: $(INSTALLED) ## measure decisions at 100 and at 100,000 agreements
	$(BIN)/python -m bench.decide $(BENCH_DECIDE)

.PHONY: bench-log
bench-log: $(INSTALLED) ## measure bundles, proofs, the fold and searches where the log is long (5 GB of disk)
	$(BIN)/python -m bench.log $(BENCH_LOG)
	$(if $(BENCH_LOG),,$(BIN)/python -m bench.log_search)

.PHONY: proto
proto: $(INSTALLED) ## regenerate exchange/v1 from proto/exchange/v1
	$(BIN)/python -m tools.proto

.PHONY: fuzz
fuzz: $(INSTALLED) ## the property tests, 20,000 examples each
	$(BIN)/python -m pytest tests/unit tests/component -m hypothesis --hypothesis-profile=fuzz --timeout=0

.PHONY: mutants
mutants: $(INSTALLED) ## break the code on purpose; the tests must notice
	$(BIN)/python -m tools.mutants

# uv lives in a folder of its own: only this target needs it.
.PHONY: lock
lock: ## rewrite requirements-dev.txt, keeping its versions (UPGRADE=1 takes the newest)
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install -qq $(UV)
	build/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-config --quiet $(if $(UPGRADE),--upgrade) \
		--custom-compile-command "make lock" --output-file requirements-dev.txt >/dev/null
	echo "requirements-dev.txt: $$(grep -c '==' requirements-dev.txt) packages"

.PHONY: clean
clean: ## stop the demo and remove everything that make made
	if [ -d .demo ] && [ -x $(BIN)/python ]; then $(BIN)/python -m examples.city stop || true; fi
	rm -rf .venv .demo build dist *.egg-info \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements-dev.txt pyproject.toml
	command -v $(PYTHON) >/dev/null || { \
		echo "error: $(PYTHON) was not found"; \
		echo "hint: install Python 3.11 or newer, or say which one to use: make PYTHON=/path/to/python3"; \
		exit 1; \
	} >&2
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) -V 2>&1)"; \
		echo "hint: say which one to use: make PYTHON=/path/to/python3.11"; \
		exit 1; \
	} >&2
	echo "Installing into .venv (about a minute, once)"
	$(PYTHON) -m venv --clear .venv || { \
		rm -rf .venv; \
		echo "hint: on Debian and Ubuntu venv is a package of its own: apt install python3-venv"; \
		exit 1; \
	} >&2
	$(BIN)/python -m pip install -qq --require-hashes --only-binary :all: -r requirements-dev.txt
	$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --no-index -e .
	touch $@
