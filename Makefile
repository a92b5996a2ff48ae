# Everything is installed into .venv and kept in .airflow, both in this folder.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
export AIRFLOW_HOME := $(CURDIR)/.airflow

.PHONY: demo demo-higgs demo-recovery demo-tune test test-all lint bench airflow

demo: .venv/installed
	$(BIN)/python -m tools.demo

demo-higgs: .venv/installed
	$(BIN)/python -m tools.demo_higgs

demo-recovery: .venv/installed
	$(BIN)/python -m tools.recovery

demo-tune: .venv/installed
	$(BIN)/python -m tools.demo_tune

# Each feature and each way in once. The rest is in test-all: faults that last minutes, and all combinations.
test: .venv/installed
	$(PYTEST) -m "not slow"

test-all: .venv/installed
	$(PYTEST) -m slow

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python -m benchmarks

airflow: .venv/installed
	$(BIN)/python -m tools.serve

# pip compiles bytecode as it installs: without it every Ray process starts several times slower.
.venv/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --compile -c constraints.txt -e '.[xgboost,modin,train,tune,optuna,serve,test,dev]'
	touch $@
