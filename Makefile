# Everything here needs Python 3.11+ and make, nothing else: scripts/uv.sh brings uv, uv brings the rest.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.synced
STARTED := .lightwork/started
UV := UV_PYTHON_DOWNLOADS=never scripts/uv.sh
PYTEST := PYTHONPATH=tests $(BIN)/pytest -p part_times
WITH_UV := PATH="$$PATH:$(CURDIR)/$(BIN)"
NETWORK ?= default
ARGS ?=
COMPILE := pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --no-header \
	--all-extras --group dev --quiet

##@ The two commands

.PHONY: demo
demo: setup ## Nodes up, agents listed, a hire paid over Lightning, a refund; leaves a market to play with
	@mkdir -p $(STARTED) && touch $(STARTED)/demo
	@$(WITH_UV) $(BIN)/python scripts/demo.py $(ARGS)

.PHONY: test
test: setup ## Every check and every test, real bitcoind and LND included; a missing node is a failure
	@scripts/timed.sh lint $(MAKE) --no-print-directory lint
	@scripts/timed.sh types $(MAKE) --no-print-directory types
	@scripts/timed.sh imports $(MAKE) --no-print-directory imports
	@scripts/timed.sh compose $(MAKE) --no-print-directory compose
	@scripts/timed.sh pages $(MAKE) --no-print-directory pages
	@scripts/timed.sh nodes $(MAKE) --no-print-directory nodes
	@$(BIN)/python scripts/suite.py $(ARGS)

##@ Parts of make test (ARGS="-k word" goes to pytest)

.PHONY: lint
lint: setup ## Style: ruff check, and ruff format without writing
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

.PHONY: types
types: setup ## Types: pyright strict
	@$(BIN)/pyright

.PHONY: imports
imports: setup ## Who may import whom: import-linter
	@$(BIN)/lint-imports

.PHONY: compose
compose: setup ## docker-compose.yml, read by a compose tool (an own copy of it where there is none)
	@$(WITH_UV) docker/check.sh

.PHONY: unit
unit: setup ## Rules and parts alone, and the properties that hold for any input
	@$(PYTEST) $(wildcard tests/unit tests/property) $(ARGS)

.PHONY: properties
properties: setup ## The properties again, with fresh examples and many more of them (ARGS="-k market" for the market)
	@LIGHTWORK_TEST_PROFILE=nightly $(PYTEST) tests/property --timeout 0 $(ARGS)

.PHONY: packaging
packaging: setup ## Editable and wheel installs, a bare environment, the shape of the repository
	@$(PYTEST) tests/packaging $(ARGS)

.PHONY: docs
docs: setup ## The snippets and claims of the documents
	@$(PYTEST) tests/docs $(ARGS)

.PHONY: pages
pages: setup ## The pages of docs/ as a site in .lightwork/site; a broken link is a failure
	@$(BIN)/zensical build --strict --clean

.PHONY: contract
contract: setup nodes ## What every implementation of a port must do, here on real LND
	@$(PYTEST) tests/contract $(ARGS)

.PHONY: regtest
regtest: setup nodes ## The local network itself
	@$(PYTEST) tests/regtest $(ARGS)

.PHONY: e2e
e2e: setup nodes ## Jobs from hire to settlement or refund on real nodes
	@$(PYTEST) tests/e2e $(ARGS)

.PHONY: kill-matrix
kill-matrix: setup ## Each step of each flow, {broker, LND, database} killed, on the simulated network: who lost what (ARGS="--database postgresql")
	@PYTHONPATH=tests $(BIN)/python -m kill_matrix.run $(ARGS)

.PHONY: kill-matrix-regtest
kill-matrix-regtest: setup nodes ## The same on real bitcoind and LND, hours of it (ARGS="--every 20" for a part)
	@PYTHONPATH=tests $(BIN)/python -m kill_matrix.run_regtest $(ARGS)

.PHONY: mutants
mutants: setup ## One rule of the code broken at a time, and the test that must notice (ARGS="--invariant I13")
	@PYTHONPATH=tests $(BIN)/python -m mutants.run $(ARGS)

.PHONY: chaos
chaos: setup nodes ## Real nodes, agents at work, and broker, LND and bitcoind killed at random (ARGS="--minutes 3 --seed 7")
	@PYTHONPATH=tests $(BIN)/python -m chaos.run $(ARGS)

.PHONY: bench
bench: setup nodes ## A hire through the broker against the same escrow done raw, as a ratio
	@$(BIN)/python tests/benchmarks/bench.py $(ARGS)

.PHONY: bench-author
bench-author: setup ## From an author's first import to a paid job, against two seconds
	@$(BIN)/python tests/benchmarks/author.py

.PHONY: bench-dead-call
bench-dead-call: setup ## For how long the kernel keeps what a killed process had sent to LND, against what withdrawals wait (Linux)
	@unshare --user --map-root-user --net $(BIN)/python tests/benchmarks/dead_call.py

.PHONY: bench-database
bench-database: setup ## What PostgreSQL costs against SQLite, in writes a second, as a ratio
	@PYTHONPATH=tests $(BIN)/python tests/benchmarks/database_writes.py

##@ A network to play with (NETWORK=name for another one)

.PHONY: up
up: setup ## Start bitcoind and the LND nodes broker, buyer and provider
	@mkdir -p $(STARTED) && touch $(STARTED)/$(NETWORK)
	@$(WITH_UV) $(BIN)/lightwork-regtest up --name $(NETWORK) $(ARGS)

.PHONY: down
down: setup ## Stop them; `make up` goes on with the same chain and channels
	@$(BIN)/lightwork-regtest down --name $(NETWORK) $(ARGS)

.PHONY: nodes
nodes: setup ## Find, fetch or build bitcoind and lnd, and say which way served
	@$(WITH_UV) $(BIN)/python scripts/nodes.py

##@ The house

.PHONY: setup
setup: $(STAMP) ## .venv with what requirements/dev.lock pins; nothing happens if it is there
	@:

$(STAMP): requirements/dev.lock requirements/uv.txt pyproject.toml scripts/setup.sh scripts/uv.sh scripts/python.sh
	@scripts/setup.sh
	@touch $@

.PHONY: format
format: setup ## Let ruff mend and format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

.PHONY: lock
lock: ## Bring requirements/dev.lock in step with pyproject.toml (ARGS=--upgrade for newer versions)
	@$(UV) $(COMPILE) --python-version 3.11 --output-file requirements/dev.lock $(ARGS)

.PHONY: hooks
hooks: setup ## Run lint, types and imports at each commit
	@$(BIN)/pre-commit install

.PHONY: clean
clean: ## Stop and remove what this checkout started, then .venv and caches; downloads stay
	@scripts/clean.sh

.PHONY: clean-cache
clean-cache: ## Remove the downloaded programs (uv, bitcoind, lnd) as well
	@scripts/clean.sh --cache

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
