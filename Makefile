# One call of `python -m pipeline` a target; the first one on a fresh machine makes the virtual environment.
#
#   make engine MODEL=segformer [CHECKPOINT=… DATA=… BACKEND=… CALIBRATION=… ARGS='--set …']
#   make test
#   make … CPU=avx2   as on a processor without VNNI, on any x86 machine (tests/without_vnni/)
MODEL ?= segformer
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m pipeline
INSTALL := $(VENV)/bin/python -m pipeline.cli.install
ifdef CPU
export ONEDNN_MAX_CPU_ISA := $(if $(filter avx2,$(CPU)),AVX2,$(error CPU=avx2 is all that can be tried on another processor))
export PYTHONPATH := $(CURDIR)/tests/without_vnni:$(PYTHONPATH)
endif
quoted = '$(subst ','\'',$(1))'
OPTIONS := $(MODEL) $(if $(CHECKPOINT),--checkpoint $(call quoted,$(CHECKPOINT))) $(if $(DATA),--data $(call quoted,$(DATA))) \
           $(if $(BACKEND),--backend '$(BACKEND)') $(if $(PRECISION),--set tensorrt.precision='$(PRECISION)') \
           $(if $(CALIBRATION),--calibration '$(CALIBRATION)') $(ARGS)

.PHONY: engine check bench bound bench-build bench-parity compare sensitivity place bench-calibration scaling tables status doctor gpu-test lint test campaign mutation clean
.DEFAULT_GOAL := engine

engine: $(VENV)/ready      ## checkpoint -> verified int8 engine in exports/$(MODEL)/
	@$(RUN) engine $(OPTIONS)

check: $(VENV)/ready       ## verify again, compare with the stored baseline
	@$(RUN) check $(MODEL) $(if $(BACKEND),--backend '$(BACKEND)') $(ARGS)

bench: $(VENV)/ready-bench ## every method side by side, e.g. ARGS='--shape bert-base'
	@$(RUN) bench $(MODEL) $(ARGS)

bound: $(VENV)/ready       ## how fast the engine could be at most here, and its profile, e.g. ARGS='--shape bert-base'
	@$(RUN) bound $(MODEL) $(if $(BACKEND),--backend '$(BACKEND)') $(ARGS)

compare: $(VENV)/ready-bench  ## accuracy of every calibration method, beside the quantizers of others
	@$(RUN) compare $(OPTIONS)

sensitivity: $(VENV)/ready ## what every quantizer, layer and kind costs in accuracy
	@$(RUN) sensitivity $(OPTIONS)

place: $(VENV)/ready       ## search the fastest placement within the budgets, e.g. BACKEND=openvino ARGS='--shape bert-base'
	@$(RUN) place $(OPTIONS)

bench-calibration: $(VENV)/ready-bench  ## time and memory of calibration, e.g. ARGS='--record results/calibration.json'
	@$(RUN) bench-calibration $(ARGS)

bench-build: $(VENV)/ready-bench  ## seconds of a whole `make engine`, e.g. ARGS='--shape bert-base'
	@$(RUN) bench-build $(MODEL) $(ARGS)

bench-parity: $(VENV)/ready ## how many faulty engines parity refuses, and how many sound ones, by size of the fault
	@$(RUN) bench-parity $(OPTIONS)

scaling: $(VENV)/ready-bench  ## latency and memory against batch, length and image size, e.g. ARGS='--shape bert-base'
	@$(RUN) scaling $(ARGS)

gpu-test: $(if $(wildcard exports/gpu-*/manifest.json),,$(VENV)/ready)  ## TensorRT on a GPU: makes exports/gpu-* where torch is, then measures
	@$(firstword $(wildcard $(VENV)/bin/python) $(PYTHON)) -m pipeline gpu-test --record results/gpu.json $(ARGS)

tables: $(VENV)/ready      ## the tables of README and docs/, from results/*.json
	@$(RUN) tables

status: $(VENV)/ready      ## which stages would run again, and why
	@$(RUN) status $(OPTIONS)

doctor: $(VENV)/ready      ## which backends work here
	@$(RUN) doctor

lint: $(VENV)/ready
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

test: lint                 ## lint, types and every test, a process for every core
	@$(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

campaign: $(VENV)/ready    ## twenty minutes of kills, races, flipped bytes, faulty engines, damaged files, odd checkpoints
	@PYTHONPATH=tests:$(PYTHONPATH) $(VENV)/bin/python -m campaign $(ARGS)

mutation: $(VENV)/ready-mutation  ## the core with one fault at a time against its unit tests, e.g. ARGS='--minutes 5 --sample 40'
	@PYTHONPATH=tests:$(PYTHONPATH) $(VENV)/bin/python -m mutation $(ARGS)

clean:                     ## remove artifacts, keep the environment
	@find exports -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +

# The environment is ready when everything is installed at the pinned versions.
$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "the pinned packages need Python 3.11 or newer: make PYTHON=python3.12 …")'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) 'the environment' -c constraints.txt -e '.[torch,cpu,dev]'
	@touch $@

# The quantizers of others are installed when they are first compared with.
$(VENV)/ready-bench: $(VENV)/ready
	@$(INSTALL) 'what bench compares with' -c constraints.txt -e '.[torch,cpu,bench]'
	@touch $@

# cosmic-ray is installed when mutants are first made.
$(VENV)/ready-mutation: $(VENV)/ready
	@$(INSTALL) 'what makes mutants' -c constraints.txt -e '.[torch,cpu,mutation]'
	@touch $@
