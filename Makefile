# `make help` lists what there is. The work is done in Python: see lib/builder/__main__.py.
PROFILE ?= default
PARAMS  ?=
SET     ?=
REPORT  ?=
EXTRAS  ?=
ADOPT   ?=
ANEW    ?=
# reports at a time where -j does not say: one per core, but 4 at most, as each may take 3 GB
JOBS    ?= $(shell (nproc || getconf _NPROCESSORS_ONLN || echo 1) 2>/dev/null | awk '{ n = $$1; if (n > 4) n = 4; print n }')

# .venv is made and kept up to date on its own; PYTHON=python uses an environment of yours instead
ifeq ($(origin PYTHON),undefined)
PYTHON := .venv/bin/python
SET_UP := env
endif

CLI   := $(PYTHON) -m lib.builder
# tests come in groups (tests/conftest.py), in the order in which they are collected
PYTEST := $(PYTHON) -m pytest -n auto --dist loadgroup --no-loadscope-reorder
SLUGS := $(sort $(basename $(notdir $(wildcard notebooks/[0-9a-z]*.ipynb))))
ROWS  := $(basename $(notdir $(shell grep -ls 'lesson[.]rows' notebooks/[0-9a-z]*.ipynb)))
TARGETS := help env explain reports index test quick bench verify compare course rows clean-rows estimate lab clean
PLAIN := $(filter-out $(SLUGS) $(TARGETS),$(shell printf '%s\n' $(SLUGS) | sed 's/^[0-9]*-//'))

# through the environment, so that quotes and dollars in them reach Python as they are
export PROFILE PARAMS SET REPORT PHOTO CLASS CLASSIFIER WEIGHTS A B
GIVEN = --profile "$$PROFILE" $(if $(PARAMS),--params "$$PARAMS") $(if $(SET),--set "$$SET") \
  $(if $(filter-out 0,$(ANEW)),--force)

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DEFAULT_GOAL := reports
.PRECIOUS: reports/%.html reports/%.json
.PHONY: $(TARGETS) each FORCE $(SLUGS) $(PLAIN) $(SLUGS:%=each-%)

help: ## this list
	@echo 'usage: make [target] [PROFILE=default] [PARAMS=file.yaml] [SET="steps=50 noise=0.2"]'; echo
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "  %-31s  %s\n", $$1, $$2 }'
	@echo "  NN-slug, slug                    one report (there are: $(SLUGS))"
	@echo "  reports/<profile>/NN-slug.html   one report of one profile"

env: ## make or update .venv from the pins (happens on its own) [EXTRAS=cluster: Dask]
	@command -v python3 >/dev/null || { echo "error: Python 3.11 or newer is needed: install it and run make again" >&2; exit 1; }
	@python3 -I lib/builder/environment.py $(EXTRAS)

reports: $(SET_UP) ## render what is not current, or all of it anew [ANEW=1], and the index (default)
	@status=0; case " $$MAKEFLAGS" in *" -j"*) jobs= ;; *) jobs=-j$(JOBS) ;; esac; \
	  $(MAKE) --no-print-directory $$jobs each || status=$$?; \
	  $(MAKE) --no-print-directory index $(if $(PARAMS)$(SET),PROFILE=custom) || status=$$?; exit $$status

# the others reuse what 04 (networks, for 05) and 12 (masks, for 13 to 15) leave in the cache; then
# the longest, so that no core waits at the end for the last one
FIRST := $(foreach number,04 12 17 01 09 07 02 16 06 03 10,$(filter $(number)-%,$(SLUGS)))

explain: $(SET_UP) ## explain a photo of yours [PHOTO=cat.jpg CLASS=tabby CLASSIFIER= WEIGHTS=]
	@$(CLI) build 00-explain $(GIVEN)

# by either name, a photo that is given is never ignored
explain 00-explain: GIVEN += $(if $(PHOTO),--value "photo=$$PHOTO") \
  $(if $(CLASS),--value "label=$$CLASS") $(if $(CLASSIFIER),--value "classifier=$$CLASSIFIER") \
  $(if $(WEIGHTS),--value "weights=$$WEIGHTS")

each: $(FIRST:%=each-%) $(SLUGS:%=each-%)

$(SLUGS:%=each-%): each-%:
	@$(CLI) build $* --no-index $(GIVEN)

$(SLUGS) $(PLAIN): $(SET_UP)
	@$(CLI) build $@ $(GIVEN)

# the builder knows from a content hash what is current: time stamps mean nothing after a clone
reports/%.html reports/%.json: override export PROFILE = $(*D)
reports/%.html reports/%.json: FORCE $(SET_UP)
	@$(CLI) build $(*F) $(GIVEN)

index: $(SET_UP) ## write reports/<profile>/index.html anew
	@$(CLI) index --profile "$$PROFILE"

test: $(SET_UP) ## run every test, and check style and format
	$(PYTEST)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

quick: $(SET_UP) ## run the tests that take seconds, and check style: the edit-test loop
	$(PYTEST) -m "not slow and not browser"
	$(PYTHON) -m ruff check .

bench: $(SET_UP) ## measure speed and memory against other libraries
	$(PYTHON) -m benchmarks

verify: $(SET_UP) ## run reports again and compare every number [REPORT=NN-slug] [ALL=1 lists each]
	@$(CLI) verify $$REPORT --profile "$$PROFILE" $(if $(ALL),--all)

compare: $(SET_UP) ## two runs side by side [A=reports/default B=reports/custom, HEAD~1:reports/default]
	@$(CLI) compare "$$A" "$$B"

course: $(SET_UP) ## notebooks for students and lecturers, slides and a site, in course/
	@$(CLI) course

# with ADOPT, which evidence() sees, reports that have rows and are not current are made again first
rows: $(SET_UP) ## list the rows that are kept [ADOPT=1: try those that other code gave]
	@$(if $(and $(ADOPT),$(ROWS)),$(MAKE) --no-print-directory $(ROWS))
	@$(PYTHON) -m lib.rows list

clean-rows: $(SET_UP) ## remove the rows that only one report uses [REPORT=NN-slug]
	@$(PYTHON) -m lib.rows clean "$$REPORT"

estimate: $(SET_UP) ## what the rows of a profile would cost [PROFILE=imagenet]
	@$(PYTHON) -m lib.rows estimate "$$PROFILE" $(ROWS) $(if $(WORKERS),--workers "$$WORKERS")

lab: $(SET_UP) ## open the notebooks in JupyterLab
	$(PYTHON) -m jupyterlab notebooks

clean: ## remove caches and experiments; .venv and the profiles' reports stay
	rm -rf .cache .pytest_cache .ruff_cache reports/custom
	find lib tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
