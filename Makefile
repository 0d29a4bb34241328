# Everything from nothing but python3 (3.11 or newer) and make. Set-up speaks on stderr, so that
# `make demo ARGS=--json` leaves stdout to the program.

VENV := .venv
PY := $(VENV)/bin/python
# One more than there are cores: many tests wait for a process, a disk or a deadline.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1) + 1)
# What `make lock` resolves with; the installed environment doesn't need it.
UV := uv==0.13.8
UV_COMPILE = build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make lock' $(LOCK_ARGS)

# Importing without bytecode takes five times as long, and a foreign PYTHONPATH could shadow the locked packages.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test lint types check bench docs lock clean

help: ## list the targets
	@sed -n 's/^\([a-z][a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

venv: $(VENV)/.installed ## build .venv from the hash-pinned lock; quick when nothing changed
	@$(PY) -m compileall -q tbh >&2 || : # what doesn't compile is for lint and tests to report

demo: venv ## watch a bot trade a simulated market on paper (ARGS="--json" and others are passed on)
	@$(PY) -m tbh demo $(ARGS)

test: venv ## run the tests, on all cores and one more (ARGS="-k journal" and others are passed on; WORKERS=0 for one)
	@$(PY) -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not alone" $(ARGS) \
		|| test $$? -eq 5 # 5: ARGS chose none
	@$(PY) -m pytest -q -m alone $(ARGS) || test $$? -eq 5

lint: venv ## ruff: rules and format
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: venv ## mypy --strict
	@$(PY) -m mypy

check: lint types test ## lint, types and tests

bench: venv ## run a benchmark: make bench ARGS="kernel --json"
	@$(PY) -m bench $(ARGS)

docs: venv ## write docs/RPC.md, FAULTS.md and INDICATORS.md anew, from the migrations, the simulator and the catalogue
	@$(PY) -m tbh.infra.rpcdocs docs/RPC.md
	@$(PY) -m tbh.campaign.faultsdoc docs/FAULTS.md
	@$(PY) -m tbh.conformance.docs docs/INDICATORS.md

lock: ## resolve requirements/*.txt anew (LOCK_ARGS=--upgrade takes newer versions)
	@test -x build/lock/bin/uv || { python3 -m venv build/lock && build/lock/bin/pip install --quiet '$(UV)'; }
	@$(UV_COMPILE) requirements/build.in --output-file requirements/build.txt
	@$(UV_COMPILE) pyproject.toml requirements/build.in --extra dev --output-file requirements/dev.txt
	@$(UV_COMPILE) pyproject.toml --constraint requirements/dev.txt --output-file requirements/runtime.txt

clean: ## remove .venv, caches and build results; state directories of bots stay
	@rm -rf $(VENV) build dist ./*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An interpreter that went away (a removed or upgraded Python) makes the environment stale, not broken for good.
$(PY):

# The stamps are removed first and written last: what was interrupted is built again from nothing.
# --clear, because a package left behind changes what runs: TA-Lib imports pandas wherever it finds it.
$(VENV)/.locked: requirements/dev.txt $(PY)
	@rm -f $(VENV)/.locked $(VENV)/.installed
	@for python in $(or $(PYTHON),python3 python3.11 python3.12 python3.13 python3.14); do \
		"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
		echo "make venv: building $(VENV) with $$("$$python" --version), about a minute" >&2; \
		"$$python" -m venv --clear $(VENV) >&2 && exit 0 || exit 1; \
	done; \
	echo "make venv: $(or $(PYTHON),PATH) has no Python 3.11 or newer with venv and ensurepip:" \
		"install it (Debian: python3-venv), or name it: make venv PYTHON=/path/to/python3" >&2; \
	exit 1
	@$(PY) -m pip install -qq --disable-pip-version-check --no-compile --require-hashes -r requirements/dev.txt >&2
	@$(PY) -m compileall -q -j 0 $(VENV)/lib >&2
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml tbh/__init__.py
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable . >&2
	@touch $@
