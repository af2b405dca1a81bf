# Needs Python >= 3.10 and make. Everything else goes into .venv, once; it is brought up to date when the pins change.

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
# test processes: a number, auto (one per core), or 0 for none besides pytest itself
WORKERS ?= auto
# processes of test-all that judge pairs
PAIR_WORKERS ?= 2

python  := $(VENV)/bin/python
install := $(python) -m pip install -qq --disable-pip-version-check -c constraints.txt
ours    := $(install) --no-build-isolation -e
pins    := pyproject.toml constraints.txt x_transformers/version.py

# pip must not run twice in one environment, and timings mean something only alone
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test test-all triples mutations lint types docs site figures bench goldens clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo 'ARGS="..." goes to the command, PYTHON=python3.12 chooses the interpreter of a new environment'

demo: $(VENV)/.demo  ## train a small language model, save it, let it write (ARGS="--steps 20")
	$(python) examples/train_lm.py $(ARGS)

# one thread per worker: two workers with two threads each are slower than two with one
test: $(VENV)/.test  ## run the tests (ARGS="-k rotary")
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(python) -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal $(ARGS)

# verdicts are kept in .pairs/ while the code stays as it is, so that a run that was cut off goes on
test-all: $(VENV)/.test  ## run all of every test, the laws over every pair of flags, and write docs/combinations.md (long; PAIR_WORKERS=2)
	PAIRS=all OMP_NUM_THREADS=1 MPLBACKEND=Agg $(python) -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal $(ARGS)
	OMP_NUM_THREADS=1 $(python) tests/laws/pairs.py --workers $(PAIR_WORKERS)
	$(python) tests/laws/combinations.py

triples: $(VENV)/.test  ## run the laws over random triples of flags (ARGS="--count 1000 --seed 7")
	OMP_NUM_THREADS=1 $(python) tests/laws/triples.py $(ARGS)

mutations: $(VENV)/.test  ## break lines of the library one at a time: a law must fail for each (ARGS="'rotary sign'")
	OMP_NUM_THREADS=1 $(python) tests/mutations/run.py $(ARGS)

lint: $(VENV)/.lint  ## ruff
	$(python) -m ruff check . $(ARGS)

types: $(VENV)/.lint  ## mypy
	$(python) -m mypy $(ARGS)

docs: $(VENV)/.demo  ## write docs/flags.md anew from the declarations
	$(python) -m x_transformers.flags --markdown > docs/flags.new
	mv docs/flags.new docs/flags.md

site: $(VENV)/.site  ## build the pages of the site into build/site (ARGS="--site-dir /tmp/pages")
	NO_MKDOCS_2_WARNING=1 $(python) -m mkdocs build --strict $(ARGS)

figures: $(VENV)/.demo  ## draw images/ anew from the library
	MPLBACKEND=Agg $(python) images/draw.py $(ARGS)

bench: $(VENV)/.demo  ## measure against 2.0.1, transformers and by hand; writes docs/benchmarks.md (ARGS="--workload decode")
	$(python) benchmarks/run.py $(ARGS)

goldens: $(VENV)/.demo  ## compare with recorded outputs of 2.0.1 (GOLDENS=dir, the folder with check_goldens.py)
	@test -f '$(GOLDENS)/check_goldens.py' || { echo 'which records? make goldens GOLDENS=dir, with dir/check_goldens.py'; exit 2; }
	PYTHONPATH='$(CURDIR)' $(python) '$(GOLDENS)/check_goldens.py' --strict-keys $(ARGS)

clean:  ## remove environments, caches and builds
	rm -rf $(VENV) benchmarks/.envs build dist .pairs .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo '$(PYTHON) is not Python 3.10 or newer: name one that is, as in make demo PYTHON=python3.12'; exit 1; }
	@echo 'creating $(VENV) with '"$$($(PYTHON) --version)"
	@$(PYTHON) -m venv --prompt x_transformers $(VENV)
	@touch $@

$(VENV)/.demo: $(pins) | $(VENV)/.made
	@echo 'installing torch and the pinned packages (once; torch is large)'
	@$(install) hatchling editables torch
	@$(ours) '.[examples]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo 'installing the test tools'
	@$(ours) '.[test,examples,trainers]'
	@touch $@

$(VENV)/.site: $(VENV)/.demo
	@echo 'installing what builds the site'
	@$(ours) '.[site,examples]'
	@touch $@

$(VENV)/.lint: $(VENV)/.demo
	@echo 'installing ruff and mypy'
	@$(ours) '.[lint]'
	@touch $@
