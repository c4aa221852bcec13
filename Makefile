# Two commands on a bare machine with Python 3.11 and a package registry: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One numeric thread per process: simulated hospitals run side by side (METHODS section 10)
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1
export FLWR_TELEMETRY_ENABLED = 0
export FLWR_DISABLE_UPDATE_CHECK = 1

.PHONY: help install demo test lint types test-slow bench-speed clean

help:  ## show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

install: $(STAMP)  ## create .venv and install everything (uv when present, else pip)

$(STAMP): pyproject.toml constraints.txt
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	  uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	fi
	@touch $(STAMP)

demo: $(STAMP)  ## five hospitals with synthetic radiographs: summary in the terminal, report as one HTML file
	$(BIN)/medtl simulate quickstart

test: $(STAMP) lint types  ## everything CI checks: ruff, mypy --strict, doctests, tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: $(STAMP)  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy --strict on our packages
	$(BIN)/mypy

test-slow: $(STAMP)  ## tests that take longer than the default suite allows
	$(BIN)/python -m pytest -m slow

bench-speed: $(STAMP)  ## ratios against plain torch and Flower's Ray simulation, measured in one run
	$(BIN)/python -m simulations.speed

clean:  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
