# make repro: everything; make test: the tests. `make help` lists the rest. PROFILE=hcp does it in profiles/hcp.
PYTHON ?= python3
PORT ?= 5000
JOBS ?= 2
FOLDER := $(if $(PROFILE),profiles/$(PROFILE),.)
ifeq ($(wildcard $(FOLDER)),)
$(error PROFILE must be one of $(notdir $(wildcard profiles/*)), got $(PROFILE))
endif
BIN := .venv/bin
INSTALLED := .venv/installed
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
# in a profile DVC takes __pycache__ in pipeline/ for a change of the code
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help repro repository side-by-side plan show compare verify test check mutants ui sync lock lowest bench

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

# Alone, dvc repro does all of it, one stage after the other. Here items that do not need each other run side by side, JOBS of them,
# those that have changed. The items of a line are split over about 4 x JOBS dvc processes: with fewer, one would have many items at
# the end; with more, starting them would take longer. One that fails stops only what needs it. The closing dvc repro does what is
# left, tries that one again, and fails with it.
repro: repository $(INSTALLED)  ## install what is missing, then everything: data, training, attacks, tables, report (JOBS at a time)
	@cd $(FOLDER) && PYTHONPATH="$(abspath $(dir $(firstword $(MAKEFILE_LIST))))" python -m stages.locks
	@if [ "$(JOBS)" -le 1 ]; then $(DVC) repro items && exec $(GROUP) $(DVC) repro --keep-going; elif ! $(DVC) status -q; then \
		exec $(GROUP) $(MAKE) --no-print-directory -f $(firstword $(MAKEFILE_LIST)) side-by-side; fi
	@echo "The report is $(FOLDER)/metrics/report.html; make ui$(if $(PROFILE), PROFILE=$(PROFILE)) compares the runs."

repository:
	@git rev-parse --is-inside-work-tree >/dev/null 2>&1 || { echo "This folder is not a git repository, which DVC needs: get it \
	by git clone, or run git init in it."; exit 1; }

side-by-side:
	@$(DVC) repro items
	@$(call each,data)
	@$(call each,pretrain)
	@$(call each,planes sources finetune)
	@$(call each,transfer attack)
	@$(DVC) repro --keep-going

each = changed=$$($(DVC) status $(1)) || exit 1; set -- $$(echo "$$changed" | sed -n 's/^\([a-z].*\):$$/\1/p'); \
	[ $$\# = 0 ] || echo "$(1): $$\# to run, $(JOBS) at a time"; \
	printf '%s\n' "$$@" | xargs -r -P $(JOBS) -n $$(($$\# / (4 * $(JOBS)) + 1)) \
	sh -c '$(DVC) --wait-for-lock repro -s --keep-going "$$@" || exit 1' sh || echo "$(1): some failed, see above"
DVC = dvc --cd $(FOLDER)
# kill reaches make and its shell, which exec replaces by this; what they start would go on
GROUP = python $(dir $(firstword $(MAKEFILE_LIST)))stages/group.py

plan: $(INSTALLED)  ## what a run would take, before it is run: items, hours, disk, memory (CHANGED=1: what has changed alone)
	@cd $(FOLDER) && PYTHONPATH="$(CURDIR)" python -m stages.plan --jobs $(JOBS) $(if $(CHANGED),--changed)

show: $(INSTALLED)  ## METHOD=name: a method with all that it builds on, and where each value is written
	@cd $(FOLDER) && PYTHONPATH="$(CURDIR)" python -m stages.show $(METHOD)

compare: $(INSTALLED)  ## workspace, HEAD, experiments by what differs (REVS="v1 main": these; RUNS="a b": two folders, by image)
	@cd $(FOLDER) && PYTHONPATH="$(CURDIR)" python -m stages.compare $(REVS) $(if $(RUNS),--runs $(RUNS))

verify: $(INSTALLED)  ## whether the results here and in DVC's cache are those that the run has made, read to the last bit
	@cd $(FOLDER) && PYTHONPATH="$(CURDIR)" python -m stages.verify

test: $(INSTALLED)  ## the tests, JOBS files at a time (SLOW=1: those that take minutes too)
	python -m pytest -n $(JOBS) --dist loadfile $(if $(SLOW),--slow)

check: $(INSTALLED)  ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

# torchattacks asks for an old requests that it never imports, so it comes without what it asks for: see docs/benchmarks.md
bench: $(INSTALLED)  ## speed and memory beside other libraries and the machine's limit (PARTS="repro autoattack": these instead)
	@python -c 'import dill, multiprocess, torchattacks' 2>/dev/null || pip install -q --no-deps torchattacks==3.5.1 multiprocess dill
	python -m benchmarks $(PARTS)

mutants: $(INSTALLED)  ## do the tests notice a wrong line? metrics/mutants.md
	python -m benchmarks.mutants --jobs $(JOBS)

ui: $(INSTALLED)  ## MLflow's comparison of all models, on http://127.0.0.1:$(PORT)
	@cd $(FOLDER) && PYTHONPATH="$(CURDIR)" python -m stages.ui $(PORT)

sync: $(INSTALLED)  ## record in MLflow what it does not have yet
	@cd $(FOLDER) && PYTHONPATH="$(CURDIR)" python -m stages.sync

lock: $(INSTALLED)  ## pin the newest versions that pyproject.toml allows
	pip install -q uv
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra pipeline --group test --group lint --upgrade \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links -o requirements.lock

lowest: $(INSTALLED)  ## the tests on the oldest packages that pyproject.toml allows (TESTS="tests/losses": these)
	pip install -q uv
	uv venv -q --clear --python $(BIN)/python .venv/lowest
	uv pip install -q --python .venv/lowest/bin/python --resolution lowest-direct -r pyproject.toml --extra pipeline --group test
	.venv/lowest/bin/python -m pytest $(TESTS)

$(INSTALLED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V); name another with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "Installing 6.4 GB of packages, once, which takes minutes; without a GPU a third of it will do, see docs/everyday.md."
	$(BIN)/pip install -q -r requirements.lock
	@touch $@
