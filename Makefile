# Everything is installed into .venv and .venv-matrix and kept in .airflow, all in this folder.
PYTHON ?= python3
BIN := .venv/bin
# In three processes on two cores, since tests wait as much as they compute.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
FAULTS_RESULTS := $(CURDIR)/build/faults.jsonl
export AIRFLOW_HOME := $(CURDIR)/.airflow

.PHONY: demo demo-higgs demo-recovery demo-tune test test-lanes test-all test-postgres matrix faults \
    faults-at-each-moment faults-at-random lint docs bench bench-quick airflow constraints dist

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
	$(PYTEST) -m "not slow and not only_faults"

test-all: test-lanes
	$(PYTEST) -m slow

# Part of it on the oldest and on the newest releases, and on pandas 3.
test-lanes: .venv/installed
	$(BIN)/python -m tools.matrix --on-each-run

# The tests from end to end, with Airflow as teams run it: its database in PostgreSQL, and 16 tasks at a time. Then those
# of hundreds of tasks at once, beside which nothing else should run.
test-postgres: .venv/installed
	$(PYTEST) tests/end_to_end -m "not only_faults" --airflow-database=postgresql
	$(BIN)/python -m pytest tests/end_to_end -m only_faults

# What breaks first with other releases of Airflow, Ray, Python and pandas: on each lane of tools/matrix.cfg, or on those
# that LANES names.
matrix: .venv/installed
	$(BIN)/python -m tools.matrix $(LANES)

faults: faults-at-each-moment faults-at-random

# What a fault costs goes into docs/explain/reliability.md. It waits most of the time: hence one process more.
faults-at-each-moment: .venv/installed
	mkdir -p build
	: > $(FAULTS_RESULTS)
	FAULTS_RESULTS=$(FAULTS_RESULTS) $(PYTEST) -n 4 -v -m "faults or only_faults" tests/faults; \
	    outcome=$$?; $(BIN)/python -m tests.faults.table $(FAULTS_RESULTS) && exit $$outcome

# With other examples each time; SEED=… takes those of an earlier run.
SEED ?= $(shell date +%s)
faults-at-random: .venv/installed
	@echo "The seed of this run: make faults-at-random SEED=$(SEED)"
	$(PYTEST) -v -m "faults or only_faults" --ignore=tests/faults --ignore=tests/end_to_end --timeout=3600 \
	    --hypothesis-profile=faults --hypothesis-seed=$(SEED)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Warnings are errors; so is a link that leads nowhere on the site, a word that no list has, and what tools/prose.py refuses.
docs: .venv-docs/installed
	.venv-docs/bin/python -m tools.prose
	.venv-docs/bin/python -m sphinx -b html -q -W --keep-going docs docs/_build/html

bench: .venv/installed
	$(BIN)/python -m benchmarks

# Whether all of them work: its figures mean nothing.
bench-quick: .venv/installed
	$(BIN)/python -m benchmarks --quick

airflow: .venv/installed
	$(BIN)/python -m tools.serve

# Sdist and wheel in dist/, looked at, installed into an environment of their own, and README's first DAG run there.
# Airflow's own constraints are in its repository: make dist AIRFLOW_CONSTRAINTS=https://….txt installs with those.
AIRFLOW_CONSTRAINTS ?= constraints.txt
dist: .venv/installed
	$(BIN)/python -m tools.dist $(AIRFLOW_CONSTRAINTS)

# Pins what setup.cfg asks for and no pin is there for; the pins that are there stay as far as they can. To renew all of
# constraints.txt: make constraints RENEW=--upgrade; one of them: make constraints RENEW='--upgrade-package polars'.
# Those of constraints-oldest.txt are of the time of the oldest Airflow: without them pip takes releases of other packages
# that this Airflow does not know. Its oldest Airflow, Ray and pyarrow are written by hand, as setup.cfg says.
PIN := $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate setup.cfg
EXTRAS_OF_OLDEST := xgboost modin train tune optuna test
OLDEST := apache-airflow|apache-airflow-providers-common-compat|pyarrow|ray
constraints: .venv/installed
	$(PIN) --all-extras $(RENEW) --output-file constraints.txt
	grep -E '^($(OLDEST))==' constraints-oldest.txt > .venv/oldest.txt
	$(PIN) --constraints .venv/oldest.txt $(EXTRAS_OF_OLDEST:%=--extra %) --output-file constraints-oldest.txt

# uv takes a fraction of pip's time, which does it where pip alone knows the way to a registry. Both compile bytecode:
# without it every Ray process starts several times slower.
PACKAGE := -c constraints.txt -e '.[xgboost,modin,train,tune,optuna,serve,kuberay,openlineage,test,dev]'
.venv/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt uv
	$(BIN)/uv pip install --quiet --python .venv --compile-bytecode $(PACKAGE) || \
	    $(BIN)/python -m pip install --quiet --compile $(PACKAGE)
	touch $@

# The site shows the package, Airflow's classes too, so what .venv has is found there as well. Python 3.11 at least.
.venv-docs/installed: .venv/installed constraints-docs.txt
	$(PYTHON) -m venv .venv-docs
	realpath .venv/lib/python3.*/site-packages > "$$(realpath .venv-docs/lib/python3.*/site-packages)/besides.pth"
	.venv-docs/bin/python -m pip install --quiet -c constraints-docs.txt -e '.[docs]'
	touch $@
