# Two commands on a bare machine with Python 3.11 and a package registry: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One numeric thread per process: simulated hospitals run side by side, one a core
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1
export FLWR_TELEMETRY_ENABLED = 0
export FLWR_DISABLE_UPDATE_CHECK = 1
# Compiled modules are kept: tests start many short processes
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test lint types test-slow test-deploy test-door test-wheel clean bench-speed bench-peers bench-scale \
  bench-methods bench-finetune bench-unseen bench-newcomer bench-sources bench-robustness bench-privacy bench-secure bench-kills \
  bench-read bench-deploy bench-predict house mutants

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
	@$(BIN)/python -m compileall -q medtl_core client server  # else the first run compiles them
	@touch $(STAMP)

demo: $(STAMP)  ## five hospitals with synthetic radiographs: summary in the terminal, report as one HTML file
	$(BIN)/medtl simulate quickstart

test: $(STAMP) lint  ## ruff, mypy --strict, doctests, and the tests that start no Flower processes
	@$(BIN)/mypy > .types.log 2>&1 & types=$$!; \
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not slow and not wheel and not deployed and not door"; tests=$$?; \
	wait $$types; types=$$?; cat .types.log; rm -f .types.log; exit $$((tests | types))

lint: $(STAMP)  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy --strict on our packages
	$(BIN)/mypy

test-slow: $(STAMP)  ## tests that take longer than the default suite allows
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow and not door"

test-deploy: $(STAMP)  ## real Flower processes on loopback: `flwr run`, SuperLink and SuperNodes against the simulation
	$(BIN)/python -m pytest -m "deployed and not door and not slow"

test-door: $(STAMP)  ## attacks on a hospital's door: real processes, thousands of neighbouring data sets and fuzzed requests
	$(BIN)/python -m pytest -n 2 --dist worksteal -m door

test-wheel: $(STAMP)  ## builds the wheel, installs it where no checkout can be seen, and runs quickstart in an empty folder
	$(BIN)/python -m pytest -m wheel tests/test_wheel.py

house: $(STAMP)  ## rooms and their budgets, circles, imports against the order, class names used twice
	@$(BIN)/python -m tests.house

mutants: $(STAMP)  ## 200 small mistakes, planted one at a time: how many the tests catch
	@mkdir -p runs && rm -f runs/mutants.json
	$(BIN)/python -m tests.mutants --map runs/mutants.json

bench-speed: $(STAMP)  ## ratios against the best of a grid of plain torch loops, measured in one run
	$(BIN)/python -m simulations.speed

bench-peers: $(STAMP)  ## the same FedAvg through plain torch, Flower's Ray simulation, medtl, and pfl where PFL=PYTHON has it
	$(BIN)/python -m simulations.peers $(if $(PFL),--pfl $(PFL))

bench-scale: $(STAMP)  ## memory of 10,000 simulated hospitals over that of 10, in process (ROADS="local ray": on Ray too)
	$(BIN)/python -m simulations.scale $(if $(ROADS),--roads $(ROADS))

# The benchmarks below need the real data sets: make bench-methods DATA=folder. Each goes on where it stopped.
DATA ?= ../shared/data
MINUTES ?= 600
SEEDS ?= 10
ONLY ?=

bench-methods: $(STAMP)  ## every method x shots x data set x seed, then the tables (MINUTES=... is the time budget)
	$(BIN)/python -m simulations.methods run --data $(DATA) --minutes $(MINUTES)
	$(BIN)/python -m simulations.methods table

bench-finetune: $(STAMP)  ## a federated epoch of fine-tuning over a plain torch epoch
	$(BIN)/python -m simulations.finetune_speed

bench-unseen: $(STAMP)  ## hospitals the federation never saw: each site left out in turn
	$(BIN)/python -m simulations.unseen --data $(DATA)/ham10000_sites --out runs/unseen-site \
	  --set sites=6 shots=90 partition=natural features=plain bootstrap=10

bench-newcomer: $(STAMP)  ## a new class, and a new hospital, with 1, 5 and 20 cases
	$(BIN)/python -m simulations.newcomer class --data $(DATA)/ham10000_sites --set image-size=128
	$(BIN)/python -m simulations.newcomer hospital --data $(DATA)/ham10000_sites --set image-size=128
	$(BIN)/python -m simulations.newcomer class --data $(DATA)/kermany_cxr224 --set image-size=128

bench-sources: $(STAMP)  ## which backbone and layer: scores from sums against measured accuracy
	$(BIN)/python -m simulations.sources --shared $(DATA)/..

bench-robustness: $(STAMP)  ## heads on corrupted test images
	$(BIN)/python -m simulations.robustness --data $(DATA)/kermany_cxr224 --methods discriminant,fedavg-20 --shots 25 --seeds 3 --out runs/robustness

bench-privacy: $(STAMP)  ## private mechanisms by epsilon, SEEDS=10 of each, then the tables (ONLY="--modes secure" narrows)
	@failed=0; $(BIN)/python -m simulations.privacy run --data $(DATA) --seeds $(SEEDS) --minutes $(MINUTES) $(ONLY) || failed=$$?; \
	$(BIN)/python -m simulations.privacy table; exit $$failed

bench-secure: $(STAMP)  ## bytes, CPU and exactness of the secure sum for 5, 20 and 50 hospitals, with drop-outs
	$(BIN)/python -m simulations.secure_cost

bench-kills: $(STAMP)  ## SIGKILL at a thousand random moments: what the privacy ledger lost
	$(BIN)/python -m simulations.kills --kills 1000

bench-read: $(STAMP)  ## images a second against bare Pillow and pydicom, and a table of a million rows
	$(BIN)/python -m simulations.reading --data $(DATA)

bench-predict: $(STAMP)  ## answers of a head over the bare forward pass and the best plain loop; start to first answer
	$(BIN)/python -m simulations.predict_speed

bench-deploy: $(STAMP)  ## an exchange between real processes against Flower's own (IMAGES=folder: ten hospitals, one head)
	$(BIN)/python -m simulations.deploy $(if $(IMAGES),--images $(IMAGES))

clean:  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
