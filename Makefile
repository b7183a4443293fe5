# `make help` lists the targets. PYTHON is the interpreter that creates .venv (3.11 or later).
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash

PROFILE ?= cpu
SEEDS ?= 1
# On a CPU, parallel rows with one core each are fastest (benchmarks/table2.md).
JOBS ?= $(if $(filter cpu smoke,$(PROFILE)),2,1)

.PHONY: help install demo table1 table2 table3 table4 table5 fig5 fig6 fig7 curves tune speed smoke export-all alarms-72h test test-slow test-full faults check validate-simulator clean

help:  ## list the targets
	@grep -hE '^[a-z0-9 -]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 34

install: $(BIN)/.installed  ## create .venv and install fmbench with its development tools

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

demo: install  ## simulate a small data set, train FmFormer on video and current, test it, draw a picture
	$(BIN)/fmbench demo

EXPERIMENT = $(BIN)/fmbench table $@ --profile $(PROFILE) --seeds $(SEEDS) --jobs $(JOBS)

table1 table2 table3 table4 table5: install  ## a table of the paper (PROFILE=cpu SEEDS=1 JOBS=2); trains rows without a result
	$(EXPERIMENT)

fig5 fig6: install  ## a figure of the paper (same variables)
	$(EXPERIMENT)

fig7 curves: install  ## beyond the paper: the gain by furnace, accuracy by length (same variables; days on 2 cores)
	$(EXPERIMENT)

tune: install  ## choose the learning rate of every row of Table II, before the tables (PROFILE, JOBS)
	$(BIN)/fmbench tune table2 --profile $(PROFILE) --jobs $(JOBS)

speed: install  ## every row of Table II: throughput, latency, memory, FLOPs (about half a minute per row)
	$(BIN)/fmbench speed table2 --config $(PROFILE) --out experiments/results/$(PROFILE)/speed.json

smoke: install  ## train every row of Table II for seconds, to test that everything runs (minutes)
	$(BIN)/fmbench table table2 --profile smoke --jobs 2

export-all: install  ## export every row of Table II to ONNX after seconds of training, and compare (20 minutes)
	$(BIN)/python benchmarks/export.py

alarms-72h: install  ## choose an alarm rule on 36 simulated hours, measure it on 36 more (CHECKPOINT=; about an hour)
	$(BIN)/python benchmarks/alarms.py --checkpoint $(CHECKPOINT) --hours 72

test: install check  ## lint, types, import rules and fast tests (minutes on 2 cores)
	$(BIN)/pytest -n auto --maxprocesses 8 -m "not slow"

test-slow: install  ## the slow tests (some minutes more)
	$(BIN)/pytest -n auto --maxprocesses 2 --dist loadfile -m slow

test-full: install  ## tests too long for every commit: compilation, hours of footage (10 minutes)
	$(BIN)/pytest -n auto --maxprocesses 2 --full -m full --ignore tests/faults

faults: install  ## run all fault trials on trainings and data, and write docs/reliability.md (20 minutes)
	$(BIN)/pytest tests/faults --full -n auto --maxprocesses 2 --report docs/reliability.md

check: install  ## ruff, mypy --strict, import-linter
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

validate-simulator: install  ## the simulator's slow validity tests with probes (some minutes)
	$(BIN)/pytest -m slow tests/simulator/test_simulator_validity.py

clean:  ## delete .venv and caches, not data/ and runs/
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
