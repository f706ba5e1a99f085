# `make help` lists the targets. `make train` and `make test` need nothing but Python >= 3.11; PYTHON=… chooses which one.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARGS   ?=
JOBS   ?= 2
# Neighbouring tests stay together, so that a fixture of a module is built once; an idle worker takes half of what is left.
SHARED := -n $(JOBS) --dist worksteal
TYPED  := tests/so3 tests/nn tests/models tests/testing tests/tasks tests/test_fiber.py tests/test_geometry.py tests/test_graph.py
# Their work is done by other processes, in which no annotation is executed.
TYPED  += --ignore tests/nn/test_triton.py --ignore tests/nn/test_native_compiler.py

# Compiled files are kept, tests among them, which takes pytest some seconds in each worker.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install data train test typed e2e slow coverage lint format gpu bench tables figures report sweep doctor wheel clean distclean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18
	@echo "  ARGS=… is handed on: make train ARGS='model=tfn seed=1', make test ARGS=tests/cli"

install: $(STAMP)  ## the command se3t in .venv

# A change of the requirements installs again; otherwise the stamp answers at once.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "se3t needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo missing);" >&2; \
	  echo "choose another one: make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV); the first time this takes minutes"
	@$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[dev]' -c constraints.txt
	@touch $@
	@echo "installed: $(BIN)/se3t"

data: $(STAMP)  ## simulate the data of Table 1
	$(BIN)/se3t data prepare nbody $(ARGS)

train: $(STAMP)  ## SE(3)-Transformer on the N-body task, minutes on two cores
	$(BIN)/se3t train experiment=nbody preset=quick $(ARGS)

test: $(STAMP)  ## all quick tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SHARED) $(ARGS)

typed: $(STAMP)  ## the tests of the library, with annotations of shapes and types executed
	@SE3T_TYPED=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SHARED) $(or $(ARGS),$(TYPED))

e2e: $(STAMP)  ## the tests of a wheel, another package, a browser, SLURM, two processes, compilers, worked pages
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SHARED) -m e2e $(ARGS)

slow: $(STAMP)  ## the tests that take minutes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(ARGS)

coverage: $(STAMP)  ## lines that no test reaches, in so3, nn and models
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SHARED) --cov=se3t.so3 --cov=se3t.nn --cov=se3t.models --cov-fail-under=95 $(ARGS)

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

gpu: $(STAMP)  ## everything to be known of a GPU, in 14 minutes; ARGS='--device cpu --minutes 5' without one
	scripts/gpu_check.sh $(ARGS)

bench: $(STAMP)  ## time and memory of one training step
	$(BIN)/se3t bench step $(ARGS)

tables: $(STAMP)  ## the tables of the paper from the runs on this machine
	$(BIN)/se3t table $(ARGS)

figures: $(STAMP)  ## Figure 3 from the same runs; ARGS=4, curves, sh: another one
	$(BIN)/se3t figure $(or $(ARGS),3)

report: $(STAMP)  ## one HTML page of tables, figures and runs
	$(BIN)/se3t report $(ARGS)

sweep: $(STAMP)  ## the ready sweeps; ARGS='experiment=nbody sweep=lr' runs one
	$(BIN)/se3t sweep $(or $(ARGS),--list)

doctor: $(STAMP)  ## versions, devices, data
	$(BIN)/se3t doctor $(ARGS)

wheel: $(STAMP)  ## dist/se3t-….whl
	$(BIN)/python -m build --wheel

clean:  ## caches and built packages; keeps data, runs and .venv
	rm -rf build dist htmlcov .coverage .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## .venv as well
	rm -rf $(VENV)
