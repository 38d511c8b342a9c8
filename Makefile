# make demo   set-up, then the main job: compile, ask, evaluate, profile, one table
# make test   set-up, then lint and all tests
# Both keep their environment in .venv/ and may be run again and again.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# the first Python that will do; override with  make demo PYTHON=/path/to/python3.12
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null \
	&& { command -v $$p; break; }; done)

.PHONY: demo test tools lint format bench clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.base
	$(BIN)/python examples/demo.py

test: $(VENV)/.dev lint tools
	$(BIN)/python -m pytest -n 2 --dist worksteal -rs --durations=10

# Vela cannot be beside the rest; it gets an environment of its own in the user's cache. Asked every
# time, for the cache may have been emptied; at once where it is there. Where it cannot be made, the
# tests that want it are skipped and say so.
tools: $(VENV)/.dev
	@echo "== set-up: the environment of Vela and the TOSA reference model"
	-$(BIN)/edgevlm doctor --install ethos

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done
	$(BIN)/python benchmarks/tables.py

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "edgevlm needs Python 3.11 or 3.12: sudo apt-get install python3 python3-venv"; exit 1; }
	@echo "== set-up: virtual environment in $(VENV) ($(PYTHON))"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "venv is missing: sudo apt-get install python3-venv"; exit 1; }

# pip's progress bars say what is going on; the stamps make a second run start at once
$(VENV)/.base: setup.cfg | $(VENV)/bin/python
	@echo "== set-up: edgevlm and what it needs (no torch)"
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[data]'
	@touch $@

$(VENV)/.dev: setup.cfg | $(VENV)/bin/python
	@echo "== set-up: edgevlm, torch (CPU), tools of phones, test tools"
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[data,torch,executorch,coreml,coreai,dev]'
	@touch $@ $(VENV)/.base

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis demo-output
