# Everything starts from nothing: a fresh Debian or Ubuntu with python3 (3.11 or newer), python3-venv, make and git.
PYTHON ?= python3
VENV   ?= .venv
USERS  ?= 5000
RATE   ?= 20
KEEP   ?=
APPROVE ?= demo

BIN    := $(VENV)/bin
STAMP  := $(VENV)/.docferry-ready

# Tests of servers wait as much as they work: three at a time for two cores.
JOBS   ?= $(shell echo $$(( ($$(nproc) * 3 + 1) / 2 )))
# Tests that measure time: nothing else runs beside them.
ALONE   = $(shell grep -rl --include='test_*.py' 'pytest.mark.alone' tests)
# Changing who leads, at length and through faults: more minutes than the tests of every change have.
CUTOVER = $(shell grep -rl --include='test_*.py' 'pytest.mark.cutover' tests)
ROOMS   = $(sort $(notdir $(shell find tests -mindepth 2 -maxdepth 2 -type d -not -path 'tests/support*' -not -name '__pycache__')))

.DEFAULT_GOAL := help
.PHONY: help venv unit contract floor flow demo stop test cutover soak check bench docs pictures lock dist clean

help: ## show this
	@echo "docferry: make TARGET"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12
	@echo "all take PYTHON=python3.12 (which makes the environment), VENV=.venv and JOBS=$(JOBS) (tests at a time)"

venv: $(STAMP) ## make the virtual environment in .venv, everything pinned

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "docferry needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv is missing: sudo apt-get install python3-venv"; exit 1; }
	@echo "==> making $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "==> installing the pinned dependencies (Airflow and all; a minute or two when nothing is cached)"
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

demo: venv ## the whole playbook in Airflow, from MongoDB to DynamoDB, back and there again, under traffic, verified (USERS=5000, RATE=20 writes/s, APPROVE=me: you approve; KEEP=1 leaves it running)
	@$(BIN)/python -m demo --users $(USERS) --rate $(RATE) --approve $(APPROVE) $(if $(KEEP),--keep)

stop: venv ## stop what `make demo KEEP=1` left running
	@$(BIN)/python -m demo --stop

unit: venv ## the tests without servers (under a minute)
	@$(BIN)/python -m pytest -q -n $(JOBS) tests/unit

contract: venv ## each port, the same tests against the fake and against real servers (2 minutes)
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile tests/contract

floor: venv ## unit and contract tests with the lowest versions that pyproject.toml allows (10 minutes)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/floor
	@$(BIN)/uv pip install --quiet --python build/floor/bin/python --resolution lowest-direct -e '.[cli,analyze,metrics,testing]' \
	  $$(sed -n -E 's/^((pytest[a-z-]*|psutil|cryptography)==[^ ]+).*/\1/p' requirements-dev.txt)
	@build/floor/bin/python -m pytest -q -n $(JOBS) --dist loadfile --ignore tests/unit/house tests/unit tests/contract

flow: venv ## all tests of one room, as `make flow F=reverse` (half a minute to 4 minutes)
	@test -n "$(filter $(F),$(ROOMS))" || { echo "make flow F=ROOM, where ROOM is one of: $(ROOMS)"; exit 2; }
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile $(filter-out tests/support/%,$(wildcard tests/*/$(F)))

test: venv ## the tests, on all cores, from nothing; all but those of `make cutover` (PYTEST="-k word -x": more words for pytest; 20 minutes on two cores)
	@echo "==> fetching mongod and the emulators, if they are not cached"
	@$(BIN)/python -c 'from docferry.sandbox import tools as t; t.ensure_mongod(print); t.ensure_ministack(print); t.ensure_moto(print)'
	@echo "==> running the tests"
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m 'not alone and not cutover' --durations=25 --durations-min=10 $(PYTEST)
	@echo "==> what measures time, alone: one drill, there, back, and there again"
	@$(BIN)/python -m pytest -s $(ALONE)

check: venv ## lint, formatting, types, layers (2 minutes)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

cutover: venv ## changing who leads, at length: through faults, by commands, and by DAGs (over an hour; not in make test)
	@$(BIN)/python -m pytest $(CUTOVER)

soak: venv ## convergence at length: 20,000 runs in memory, 200 on real servers (DOCFERRY_SOAK_RUNS, _REAL_RUNS, _SEED=n|random), and ten drills (DOCFERRY_DRILL_RUNS)
	@seed=$${DOCFERRY_SOAK_SEED:-0}; [ "$$seed" != random ] || seed=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' '); \
	  runs=$${DOCFERRY_SOAK_RUNS:-20000}; real=$${DOCFERRY_SOAK_REAL_RUNS:-200}; \
	  echo "==> $$runs runs in memory and $$real on real servers, seeds from $$seed"; \
	  DOCFERRY_SOAK_SEED=$$seed DOCFERRY_SOAK_RUNS=$$runs DOCFERRY_SOAK_REAL_RUNS=$$real \
	  $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations=0 -k interleaving tests/property/convergence/test_convergence.py \
	    tests/property/convergence/test_convergence_real.py
	@echo "==> 34 kills through fail-overs and silence"
	@DOCFERRY_KILL_ROUNDS=$${DOCFERRY_KILL_ROUNDS:-17} $(BIN)/python -m pytest -s tests/faults/replicate/test_replicate_kill.py
	@runs=$${DOCFERRY_DRILL_RUNS:-10}; echo "==> $$runs drills: there, back, and there again"; \
	  DOCFERRY_DRILL_RUNS=$$runs $(BIN)/python -m pytest -s $(ALONE)

bench: venv ## how fast it is, against the playbook's loop and boto3; and what the client costs over the calls that it makes
	@kept=0; for one in backfill validate replicate client; do $(BIN)/python -m benchmarks.$$one || kept=1; done; exit $$kept

docs: venv ## the pages as a site in build/docs, to be read offline; a broken link fails
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html -d build/docs-cache docs build/docs
	@echo "build/docs/index.html"

pictures: venv ## the pictures of the pages anew, by the tests that look at a real Airflow in a browser (6 minutes)
	@DOCFERRY_PICTURES=$(CURDIR)/build/pictures $(BIN)/python -m pytest -q -m 'not cutover' tests/e2e/browser
	@for one in docs/images/*.png; do cp build/pictures/$$(basename $$one) docs/images/; done

dist: venv ## what MWAA, Astronomer and Kubernetes take, in build/dist (MIGRATIONS=include/migrations, AIRFLOW=3.3.2, PYTHON_THERE=3.11; docs/deploy.md)
	@$(BIN)/python -m deploy $(if $(MIGRATIONS),--migrations $(MIGRATIONS)) $(if $(AIRFLOW),--airflow $(AIRFLOW)) $(if $(PYTHON_THERE),--python $(PYTHON_THERE))

lock: venv ## resolve requirements*.txt anew into requirements.lock
	$(BIN)/uv pip compile --quiet --no-header --universal --python-version 3.11 requirements-dev.txt -o requirements.lock

clean: ## remove what was made here; the cache of mongod and emulators stays
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
