# Every target sets up .venv first, once. `make` alone says what there is. Another interpreter: make setup PYTHON=python3.12
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: setup dream test extras of-extras learn check bench figures reproduce clean help

VENV := .venv
RUN := $(VENV)/bin/python
PINS := requirements.txt requirements-dev.txt
EXTRAS := $(filter-out $(PINS),$(wildcard requirements-*.txt))
# Most of the time of tests goes into compiling small programs, which XLA does in a third of it when it does not polish them.
TEST := XLA_FLAGS="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false" $(RUN) -m pytest --numprocesses 2 --dist loadfile
# The last thing written by a whole installation: without it, what is in .venv is half-made and is made anew.
STAMP := $(VENV)/.installed
ifneq ($(shell $(RUN) -c 'print("works")' 2>/dev/null),works)
$(shell rm -f $(STAMP))
endif

setup: $(STAMP)  ## make .venv with the pinned requirements; at once when it is there

$(STAMP): $(PINS)
	@if [ ! -e $@ ]; then \
	  python=""; \
	  for candidate in $(or $(PYTHON),python3 python3.12 python3.11); do \
	    if "$$candidate" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then \
	      python="$$candidate"; break; \
	    fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "error: none of ($(or $(PYTHON),python3 python3.12 python3.11)) is Python 3.11 or 3.12 with the venv module." >&2; \
	    echo "  Install one (Debian, Ubuntu: apt install python3 python3-venv), or name it: make setup PYTHON=/path/to/python3.12" >&2; \
	    exit 1; \
	  fi; \
	  echo "setting up $(VENV) with $$("$$python" --version) (once, about 2 minutes) ..."; \
	  "$$python" -m venv --clear $(VENV); \
	else \
	  echo "bringing $(VENV) up to the changed requirements ..."; \
	fi
	@rm -f $@
	@# --no-deps: the files pin everything, direct and transitive; `pip check` fails if they ever do not.
	@$(RUN) -m pip install -qq --disable-pip-version-check --no-deps $(addprefix -r ,$(PINS))
	@$(RUN) -m pip check
	@touch $@

dream: setup  ## train on CartPole by dreaming, with the no-dream control beside it (about 5 minutes)
	@$(RUN) -m scripts.train cartpole --control

test: setup  ## lint, then every test that is not marked `learn`
	@$(RUN) -m ruff check .
	@$(TEST)

extras:  ## what is optional (Atari, jumanji, Minari, Optuna, Ray), in a .venv-extras of its own: its tests, then Pong in small
	@$(MAKE) --no-print-directory VENV=.venv-extras PINS="$(PINS) $(EXTRAS)" of-extras

of-extras: setup
	@$(TEST) $(shell grep -rl --include='test_*.py' importorskip tests)
	@$(RUN) -m scripts.train atari-smoke

learn: setup  ## the slow tests: agents trained until a known number is reached, whole runs of further settings
	@$(RUN) -m pytest -m learn

check: setup  ## formatting and lint, without changing a file (to change: .venv/bin/ruff format .)
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .

bench: setup  ## speed of each part, as ratios measured in one run
	@$(RUN) -m scripts.bench cartpole-jax

figures: setup  ## redraw every figure from the recorded rows
	@$(RUN) -m scripts.figures

reproduce: setup  ## make a question's runs anew in runs/reproduced, then its figures: make reproduce FIGURE=horizon TASKS=trained-4 SEEDS=5
	@$(if $(FIGURE),,echo "error: name the question: make reproduce FIGURE=horizon, or another folder of experiments/ with a runs.py" >&2; exit 1)
	@# Runs that fail, as one that asks for an extra, do not take the others' figures; where none was made there are none.
	@failed=0; \
	$(RUN) -m scripts.sweep $(FIGURE) --root runs/reproduced --seeds $(or $(SEEDS),1) $(if $(TASKS),--tasks $(TASKS)) || failed=1; \
	[ ! -d runs/reproduced/$(FIGURE) ] || $(RUN) -m scripts.figures $(FIGURE) --root runs/reproduced; \
	exit $$failed

clean:  ## remove what make can make again (.venv, caches, build products); runs/ stays
	@rm -rf $(VENV) .venv-extras .jax_cache .pytest_cache .ruff_cache build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@awk -F ':.*  ## ' '/^[a-z]+:.*  ## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile
