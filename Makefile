# octolab. On a machine with Python 3.11 or newer (with venv), git and make:
#   make quickstart    make test
# Everything lands in .venv and build; nothing else on the machine is touched.

VENV     ?= .venv
WORKERS  ?= 2
SHELL    := /bin/sh
PYTHONS  := python3.11 python3 python3.14 python3.13 python3.12
ifeq ($(origin PYTHON),undefined)
PYTHON   := $(shell for p in $(PYTHONS); do \
  if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; exit; fi; done; echo python3)
endif
BIN      := $(VENV)/bin
PIP      := $(BIN)/python -m pip --disable-pip-version-check

# What every test command is run under: no hub, no telemetry, no update check, few rounds in the notebooks.
QUIET    := HF_HUB_OFFLINE=1 FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 JUPYTER_PREFER_ENV_PATH=1
FAST     := not slow and not browser and not flower and not deployment
SERVERS  := browser or flower or deployment
LESSONS  := $(wildcard notebooks tutorials)
OUT      := build/quickstart

.PHONY: help venv quickstart lab app test test-heavy test-ranges test-all check bench stages stages-changed clean

help:
	@echo "make quickstart   install, run notebooks/quickstart.ipynb without a screen, print the table it computed"
	@echo "make lab          open JupyterLab on the quickstart"
	@echo "make app          serve the catalogue of all methods as a web page, on this machine only"
	@echo "make test         install, run the fast tests and every notebook"
	@echo "make test-all     make test, then the slow, browser, Flower and deployment tests"
	@echo "make test-ranges  some fast tests with the newest versions that pyproject.toml allows"
	@echo "make check        ruff check, ruff format --check, mypy, imports one way"
	@echo "make bench        the benchmarks"
	@echo "make stages       every method on its stage: does its claim hold?"
	@echo "make venv         only create $(VENV), for example to install another build of torch first"
	@echo "make clean        remove build and the tools' caches (the environment stays)"

# ---------------------------------------------------------------- set-up

venv: $(VENV)/.created

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || { \
	  echo "octolab needs Python 3.11 or newer, but '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)."; \
	  echo "Install it (Debian, Ubuntu: sudo apt-get install python3.11 python3.11-venv; macOS: brew install python@3.11;"; \
	  echo "conda: conda env create -f environment.yml), or name the one you have: make PYTHON=<path to it> quickstart"; \
	  exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' >/dev/null 2>&1 || { \
	  echo "'$(PYTHON)' has no venv module (venv and ensurepip are needed to make an environment)."; \
	  echo "Install the Debian or Ubuntu package python3-venv (sudo apt-get install python3-venv; python3.X-venv for a second"; \
	  echo "Python 3.X), or name another Python: make PYTHON=<path to it> quickstart"; \
	  exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "'$(PYTHON) -m venv' failed: see the lines above."; exit 1; }
	@touch $@

# $(call install,EXTRA): the frozen set on Python 3.11, whose wheels it names; the plain ranges on any other. The mark
# .constrained says which it was: tests/test_packaging.py compares versions only where the frozen set was asked for.
define install
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then \
	  pins="-c constraints.txt"; echo "Installing octolab[$(1)] at the versions of constraints.txt (Python 3.11)."; \
	else \
	  pins=""; echo "Installing octolab[$(1)] from the ranges of pyproject.toml (constraints.txt is for Python 3.11 only)."; \
	fi; \
	echo "The first time this downloads a few hundred MB or more and takes some minutes."; \
	$(PIP) install --quiet $$pins -e '.[$(1)]' || { \
	  echo "The installation failed: see pip's lines above. It needs a package index it can reach and some 3 GB of disk."; exit 1; }; \
	if [ -n "$$pins" ]; then touch $(VENV)/.constrained; else rm -f $(VENV)/.constrained; fi
endef

$(VENV)/.installed-lab: $(VENV)/.created pyproject.toml constraints.txt
	$(call install,lab)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt
	$(call install,dev)
	@touch $(VENV)/.installed-lab $@

# ---------------------------------------------------------------- use

quickstart: $(VENV)/.installed-lab
	@rm -rf $(OUT) && mkdir -p $(OUT)
	@echo "Running notebooks/quickstart.ipynb without a screen."
	@$(QUIET) OCTOLAB_LIVE=0 OCTOLAB_QUICKSTART_DIR="$(CURDIR)/$(OUT)" $(BIN)/python -m nbconvert --log-level=WARN \
	  --to notebook --execute notebooks/quickstart.ipynb --output-dir $(OUT) --ExecutePreprocessor.timeout=600
	@$(BIN)/python -m nbconvert --log-level=ERROR --to html $(OUT)/quickstart.ipynb
	@echo
	@cat $(OUT)/comparison.txt || { echo "notebooks/quickstart.ipynb ran but wrote no $(OUT)/comparison.txt"; exit 1; }
	@echo
	@echo "executed notebook   $(OUT)/quickstart.ipynb"
	@echo "as a page           $(OUT)/quickstart.html"
	@echo "open it live        make lab"

lab: $(VENV)/.installed-lab
	$(BIN)/python -m jupyterlab notebooks/quickstart.ipynb

app: $(VENV)/.installed-lab
	$(BIN)/python -m voila octolab/lab/app.ipynb --Voila.ip=127.0.0.1 --show_tracebacks=True

# ---------------------------------------------------------------- tests

test: $(VENV)/.installed-dev
	OCTOLAB_FAST=1 $(QUIET) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadscope -m "$(FAST)" --nbval-lax tests $(LESSONS)

# First those that need nothing but time, then, one at a time, those that start browsers, Ray and servers. pytest's status 5
# says that no test carries one of the marks.
test-heavy: $(VENV)/.installed-dev
	OCTOLAB_FAST=1 $(QUIET) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadscope -m "slow and not ($(SERVERS))" tests || [ $$? -eq 5 ]
	OCTOLAB_FAST=1 $(QUIET) $(BIN)/python -m pytest -q -m "$(SERVERS)" tests || [ $$? -eq 5 ]

# The newest versions that the ranges allow, in a second environment; needs a package index. Some three minutes.
test-ranges: $(VENV)/.installed-dev
	$(BIN)/python .ci/ranges

test-all: test
	@$(MAKE) --no-print-directory test-heavy

check: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-logo

stages: $(VENV)/.installed-dev
	$(QUIET) $(BIN)/python -m benchmarks.stages

stages-changed: $(VENV)/.installed-dev
	$(QUIET) $(BIN)/python -m benchmarks.stages --changed 45

bench: $(VENV)/.installed-dev
	@[ -f benchmarks/__main__.py ] || { echo "There is no benchmarks/__main__.py here to run."; exit 1; }
	$(QUIET) $(BIN)/python -m benchmarks

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
