# Targets for people: install, train, test. `make help` lists them.
PYTHON ?= python3.11
VENV   ?= .venv
PY     := $(VENV)/bin/python
# The size of `make train`: where it writes, how many events it simulates, how many steps it trains.
RUN    ?= runs/first
EVENTS ?= 3000
STEPS  ?= 1500

.PHONY: help install dev larcv horovod openmpi train test lint types unit clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(VENV)/.installed  ## create .venv with everything that training needs

$(VENV)/.installed: pyproject.toml constraints.txt scripts/make_venv.sh
	scripts/make_venv.sh "$(PYTHON)" "$(VENV)" ".[mpich]"
	@touch $@

dev: $(VENV)/.installed-dev

$(VENV)/.installed-dev: $(VENV)/.installed
	scripts/make_venv.sh "$(PYTHON)" "$(VENV)" ".[mpich,dev]"
	@touch $@

larcv: $(VENV)/.installed  ## build and install the larcv library (cached; 6 minutes the first time)
	scripts/build_larcv.sh "$(PY)"

horovod: $(VENV)/.installed  ## build and install Horovod (cached; 8 minutes the first time)
	scripts/build_horovod.sh "$(PY)"

openmpi: $(VENV)/.installed  ## install Open MPI beside MPICH, for the tests
	scripts/install_openmpi.sh "$(PY)"

train: install  ## simulate, train and tag: 4 to 10 minutes on 2 cores, then says where its pictures are
	EVENTS=$(EVENTS) STEPS=$(STEPS) scripts/first_training.sh "$(PY)" "$(RUN)"

test: dev larcv horovod openmpi lint types unit  ## install all that the tests need, then lint, types and tests

lint:
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types:
	$(VENV)/bin/mypy

unit:
	$(PY) -m pytest -n 2

clean:  ## remove what was installed and built here; results stay
	rm -rf $(VENV) build src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
