# Everything is installed into .venv and kept in .airflow, both in this folder.
PYTHON ?= python3
BIN := .venv/bin
export AIRFLOW_HOME := $(CURDIR)/.airflow

.PHONY: demo demo-higgs demo-recovery demo-tune test lint bench airflow

demo: .venv/installed
	$(BIN)/python -m tools.demo

demo-higgs: .venv/installed
	$(BIN)/python -m tools.demo_higgs

demo-recovery: .venv/installed
	$(BIN)/python -m tools.recovery

demo-tune: .venv/installed
	$(BIN)/python -m tools.demo_tune

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

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
