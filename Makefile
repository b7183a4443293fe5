# `make help` lists the targets. PYTHON names the interpreter that makes .venv (3.11 or later).
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash

PROFILE ?= cpu
SEEDS ?= 1
# On a CPU, rows side by side with a core each are the fastest (benchmarks/table2.md).
JOBS ?= $(if $(filter cpu smoke,$(PROFILE)),2,1)

.PHONY: help install demo table1 table2 table3 table4 table5 fig5 fig6 speed smoke test test-slow faults check validate-simulator clean

help:  ## list the targets
	@grep -hE '^[a-z0-9 -]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 34

install: $(BIN)/.installed  ## make .venv and install fmbench with its development tools

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

demo: install  ## simulate a small data set, train FmFormer on video and current, test it, draw a picture
	$(BIN)/fmbench demo

EXPERIMENT = $(BIN)/fmbench table $@ --profile $(PROFILE) --seeds $(SEEDS) --jobs $(JOBS)

table1 table2 table3 table4 table5: install  ## a table of the paper (PROFILE=cpu SEEDS=1 JOBS=2); trains what has no result
	$(EXPERIMENT)

fig5 fig6: install  ## a figure of the paper, likewise
	$(EXPERIMENT)

speed: install  ## every row of Table II: throughput, latency, memory, FLOPs (about half a minute a row)
	$(BIN)/fmbench speed table2 --config $(PROFILE) --out experiments/results/$(PROFILE)/speed.json

smoke: install  ## every row of Table II in small: does everything run? (minutes)
	$(BIN)/fmbench table table2 --profile smoke --jobs 2

test: install check  ## lint, types, import rules and the fast tests (minutes on 2 cores)
	$(BIN)/pytest -n auto --maxprocesses 8 -m "not slow"

test-slow: install  ## the rest of the tests (some minutes more)
	$(BIN)/pytest -n auto --maxprocesses 2 --dist loadfile -m slow

faults: install  ## inject faults into trainings and data, every trial, and write docs/reliability.md (20 minutes)
	$(BIN)/pytest tests/faults --full -n auto --maxprocesses 2 --report docs/reliability.md

check: install  ## ruff, mypy --strict, import-linter
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

validate-simulator: install  ## the simulator's long validity tests (probes; some minutes)
	$(BIN)/pytest -m slow tests/simulator/test_simulator_validity.py

clean:  ## remove .venv and caches; data/ and runs/ stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
