# Two commands do everything on a fresh machine (Linux or macOS, Python 3.11 or later with venv):
#   make demo   create .venv, install, run the main job, say where the report is
#   make test   create .venv, install, run every test
# Variables: PYTHON (the interpreter), VENV, TORCH (what pip installs for torch, before anything else), CONSTRAINTS (a file of
# versions; empty: the newest of everything), RUN, ARGS
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
CONSTRAINTS ?= constraints.txt
RUN    ?= runs/demo
ARGS   ?=
BIN    := $(abspath $(VENV))/bin
READY  := $(VENV)/.ready
PIP    := HF_HUB_OFFLINE= $(BIN)/pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help env demo test lint real torture bench nano readme docs dist constraints clean

help:            ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

env: $(READY)    ## create .venv and install the package with everything its tests need

$(READY): setup.py settings.ini $(wildcard $(CONSTRAINTS))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "preflexor_lab needs Python 3.11 or later, $(PYTHON) is $$($(PYTHON) -V 2>&1): name another one, as in 'make $(or $(MAKECMDGOALS),env) PYTHON=python3.12'"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) '$(TORCH)'
	$(PIP) --editable '.[dev]'
	@if git rev-parse --git-dir >/dev/null 2>&1; then git config --local include.path ../.gitconfig; fi
	@touch $(READY)

demo: env        ## documents in, a model that thinks out: the main job on the embedded model
	$(BIN)/preflexor run --run-dir $(RUN) $(ARGS)

test: env        ## lint, types, library equals notebooks, notebook tests, pytest
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PATH="$(BIN):$$PATH" $(BIN)/python tests/check_export.py
	PATH="$(BIN):$$PATH" PREFLEXOR_FAST=1 $(BIN)/nbdev_test --n_workers 2 --timing
	$(BIN)/python -m pytest tests -q

lint: env        ## ruff over notebooks and scripts, mypy over the package
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

real: env         ## tests on real checkpoints, in the folder PREFLEXOR_REAL_MODELS (default ~/.cache/preflexor_models); an hour or two on one core
	PREFLEXOR_REAL_MODELS="$${PREFLEXOR_REAL_MODELS:-$$HOME/.cache/preflexor_models}" OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 \
	  $(BIN)/python -m pytest -q -s tests/test_real_models.py tests/test_one_tokenisation.py

torture: env     ## the long kill, fuzz and hack suites: 60 kill points, a million answers, every reward hack; about an hour on two cores
	OMP_NUM_THREADS=1 $(BIN)/python tests/kill_points.py 60
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz_answers.py 1000000
	OMP_NUM_THREADS=1 PREFLEXOR_KILLS=12 $(BIN)/python -m pytest -q tests/test_kill.py tests/test_active.py tests/test_tools_hacks.py tests/test_python_tool.py tests/test_dialects.py tests/test_last_doors.py

bench: env       ## every benchmark, one JSON line each; runs them all, and fails at the end with a list of those that missed their target or broke
	@missed=; $(PIP) --editable '.[dev,bench]' || missed=" bench_requirements (pip)"; \
	for f in benchmarks/*.py; do $(BIN)/python $$f || missed="$$missed $$f"; done; \
	if [ -n "$$missed" ]; then echo "bench: missed the target or failed:$$missed" >&2; exit 1; fi

nano: env        ## retrain the packaged reasoner, critic and novice from nothing with seeds 0 and 1; the first of each and all measurements go into the package (about 25 minutes)
	rm -rf runs/nano
	export OMP_NUM_THREADS=1; $(BIN)/python -m preflexor_lab.nano.train --seed 0 --out runs/nano/seed0 & first=$$!; \
	$(BIN)/python -m preflexor_lab.nano.train --seed 1 --out runs/nano/seed1; second=$$?; wait $$first && exit $$second
	export OMP_NUM_THREADS=1; $(BIN)/python -m preflexor_lab.nano.novice --seed 0 --out runs/nano/novice0 & first=$$!; \
	$(BIN)/python -m preflexor_lab.nano.novice --seed 1 --out runs/nano/novice1; second=$$?; wait $$first && exit $$second
	for m in reasoner critic; do cp runs/nano/seed0/$$m/* preflexor_lab/assets/nano/$$m/; done
	cp runs/nano/novice0/novice/* preflexor_lab/assets/nano/novice/
	for s in 0 1; do cp runs/nano/seed$$s/metrics.json preflexor_lab/assets/nano/metrics_seed$$s.json; cp runs/nano/novice$$s/metrics.json preflexor_lab/assets/nano/novice_seed$$s.json; done

readme: env      ## README.md from nbs/index.ipynb, docs/results.md from nbs/results
	$(BIN)/python .github/make_readme.py
	$(BIN)/python .github/make_results.py

docs:            ## the documentation site, in site/ (needs the extra docs alone, and puts it into the environment)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	HF_HUB_OFFLINE= $(BIN)/pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) $$(sed -n 's/^docs_requirements *= *//p' settings.ini)
	$(BIN)/python docs/make_site.py
	@echo "site/index.html is ready; with search: $(BIN)/python -m http.server --directory site"

dist: env        ## the source distribution and the wheel, in dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation

constraints: env ## constraints.txt from what .venv has
	$(BIN)/python .ci/constraints.py > constraints.new && mv constraints.new constraints.txt

clean:           ## remove the environment and build products (never your runs)
	rm -rf $(VENV) build dist site _proc _docs *.egg-info .mypy_cache .ruff_cache
