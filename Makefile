# Each target sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
ARGS ?=
PEERS := .venv-peers
SHIFT_PEERS := .venv-shift-peers
ALIBI := .venv-alibi
.DEFAULT_GOAL := help

.PHONY: help setup train ablation studies browser test test-slurm lint format docs bench bench-peers bench-shift-peers faults clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(STAMP) ## create .venv and install everything into it

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "unitgain needs Python >= 3.11, $(PYTHON) is $$($(PYTHON) -V 2>&1); set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade "pip>=25.1"
	$(PIP) install --quiet --constraint constraints.txt --editable . --group dev --group docs
	@touch $@

train: setup ## run the default job; overrides in ARGS="model.depth=30 init=xavier"
	$(BIN)/unitgain train $(ARGS)

ablation: setup ## train a 3 x 3 x 5-seed ablation, and report on it
	OMP_NUM_THREADS=1 $(BIN)/unitgain train -m hydra/launcher=packed hydra.sweep.dir=sweeps/ablation model.depth=30 \
		activation=relu,tanh,selu init=normal,xavier,he 'seed=range(0,5)' figures=false
	$(BIN)/unitgain report sweeps/ablation --metric test/accuracy --by activation,init \
		--figures sweeps/ablation/figures --columns 2

studies: setup ## run every study: half an hour on 2 cores
	OMP_NUM_THREADS=1 $(BIN)/unitgain study --all $(ARGS)

browser: ## install Chromium for the tests of the HTML report, where apt-get may
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
		echo "no chromium, and it can't be installed here: tests of the HTML report in a browser are skipped" >&2

test: setup browser lint ## lint, type-check and run every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

test-slurm: setup ## preempt, requeue and kill a sweep on a Slurm of this machine, which is installed first; needs root
	@if [ "$$(id -u)" != 0 ]; then echo "the tests on Slurm need root: they are skipped" >&2; else \
		scripts/slurm_local.sh install && \
		OMP_NUM_THREADS=1 UNITGAIN_TEST_SLURM=1 $(BIN)/python -m pytest tests/slurm --timeout 1500 $(ARGS); fi

lint: setup ## ruff, mypy and the import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup ## build the documentation strictly, into site/
	$(BIN)/mkdocs build --strict

bench: setup ## run the benchmarks (results into benchmarks/results)
	$(BIN)/python -m benchmarks $(ARGS)

bench-peers: setup $(PEERS)/.installed ## the same sweep by other libraries, which get an environment of their own
	$(BIN)/python -m benchmarks peers

$(PEERS)/.installed: benchmarks/peers-constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint benchmarks/peers-constraints.txt torch==2.13.0 scikit-learn skorch keras jax
	@touch $@

bench-shift-peers: setup $(SHIFT_PEERS)/.installed $(ALIBI)/.installed ## shifted rows by other libraries, in two environments
	$(BIN)/python -m benchmarks shift_peers

$(SHIFT_PEERS)/.installed: benchmarks/shift-peers-constraints.txt
	$(PYTHON) -m venv $(SHIFT_PEERS)
	$(SHIFT_PEERS)/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint benchmarks/shift-peers-constraints.txt torch==2.13.0 skada densratio quapy
	@touch $@

$(ALIBI)/.installed: benchmarks/alibi-constraints.txt
	$(PYTHON) -m venv $(ALIBI)
	$(ALIBI)/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint benchmarks/alibi-constraints.txt torch==2.13.0 alibi-detect
	@touch $@

faults: setup ## kill, damage and starve sweeps: no result may be lost or differ; ARGS="--kills 50 --seed 0"
	$(BIN)/python -m benchmarks.faults $(ARGS)

clean: ## remove the environment and everything built
	rm -rf $(VENV) $(PEERS) $(SHIFT_PEERS) $(ALIBI) site dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
