# Needs make, Python 3.11 or newer and its pip; nothing is compiled. Every target makes `.venv` by itself.
# `make PYTHON=/path/to/python3.12 test` chooses the interpreter, `make demo ARGS=--help` hands arguments on.

.DEFAULT_GOAL := help
.PHONY: help demo test soak lint fuzz docs up down bench previous lock audit clean
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?=
PYTHONS := python3.13 python3.12 python3.11 python3 python
ARGS ?=
SECONDS ?= 60
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOG := $(VENV)/install.log
LOCK := constraints.txt

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(STAMP) ## a model decays: real broker, real store, forecast beside the truth
	@$(BIN)/bestbefore demo $(ARGS)

test: lint ## lint, then every test, on a real broker and a real Postgres
	@echo "== tests"
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

soak: $(STAMP) ## the fault suite for 20 minutes; ARGS="--minutes 5 --seed 7"
	@$(BIN)/python -m tests.faults.soak $(ARGS)

lint: $(STAMP) ## ruff, formatting, types, layers
	@echo "== ruff" && $(BIN)/ruff check --quiet .
	@echo "== format" && $(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@echo "== types (the first run takes half a minute)" && $(BIN)/mypy --no-error-summary
	@echo "== layers" && $(BIN)/lint-imports --no-logo > $(VENV)/layers.log || { cat $(VENV)/layers.log; exit 1; }

fuzz: $(STAMP) ## damaged input to every reader, coverage as a guide; SECONDS=60 for each of three groups
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

docs: $(STAMP) ## the documentation as a site in site/; ARGS=serve shows it while you write
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs $(or $(ARGS),build --strict)

up: $(STAMP) ## start the embedded broker and store, and keep them running
	@$(BIN)/bestbefore up $(ARGS)

down: $(STAMP) ## stop them; their data stay in .bestbefore
	@$(BIN)/bestbefore down $(ARGS)

bench: $(STAMP) ## every published figure, measured on this machine
	@for name in store estimator_states cost checks detection run_length change_replay embedding_drift label_free label_free_tables audits forecast demo_seeds policies throughput bulk embed client server bridge; do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

TAG = $(shell git describe --tags --abbrev=0)
previous: $(STAMP) ## after a release: the wheels of the last tag, which the tests run beside this version
	@made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && mkdir "$$made/source" "$$made/wheels" && \
	  git archive $(TAG) | tar -x -C "$$made/source" && \
	  $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir "$$made/wheels" "$$made/source" "$$made/source/client" && \
	  rm -f tests/data/previous/*.whl && cp "$$made"/wheels/*.whl tests/data/previous/ && ls tests/data/previous

lock: $(STAMP) ## renew constraints.txt; what is there stays unless it must change (ARGS=--upgrade: the newest)
	@echo ./client | $(BIN)/python -m uv pip compile --quiet - pyproject.toml client/pyproject.toml \
	  --all-extras --group pyproject.toml:lint --group pyproject.toml:test --group pyproject.toml:audit --universal \
	  --python-version 3.11 --no-emit-package bestbefore --no-emit-package bestbefore-client --no-annotate --no-header \
	  $(ARGS) --output-file $(LOCK)
	@{ echo "# Made by \`make lock\`: the versions that are tested, for Python 3.11 to 3.13. Installing holds to it; see SECURITY.md."; \
	  grep -v '^#' $(LOCK); } > $(LOCK).new && mv $(LOCK).new $(LOCK)

audit: $(STAMP) ## look the locked packages up in an advisory service; fails where it cannot look
	@$(call pip,--constraint $(LOCK) --group audit)
	@$(BIN)/python .ci/audit.py $(ARGS)

clean: ## remove the virtual environment and the caches, not the data of `make up`
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build client/build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@find . -maxdepth 2 -name '*.egg-info' -type d -prune -exec rm -rf {} +

# The stamp is written last, so an installation that was cut off is made again. An environment that works is kept.
$(STAMP): pyproject.toml client/pyproject.toml $(LOCK)
	@$(BIN)/python -c 'import ssl, pip' 2>/dev/null || { $(make_environment); }
	@: > $(LOG)
	@$(BIN)/python -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (25, 1))' || { \
	  echo "== pip (dependency groups need 25.1)"; $(call pip,'pip>=25.1'); }
	@echo "== packages (about 550 MB the first time, a minute or more)"
	@$(call pip,--constraint $(LOCK) --editable ./client --editable '.[demo]' --group lint --group test)
	@touch $@

define make_environment
found=; for candidate in $(or $(PYTHON),$(PYTHONS)); do \
  if "$$candidate" -c 'import ssl, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$candidate; break; fi; \
done; \
if [ -z "$$found" ]; then \
  echo "Python 3.11 or newer with ssl is needed; tried: $(or $(PYTHON),$(PYTHONS))."; \
  echo "Install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; \
fi; \
echo "== virtual environment in $(VENV) ($$("$$found" --version))"; \
"$$found" -m venv --clear $(VENV) || { echo "python -m venv failed; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
endef

# pip's own words are many; they are shown only when it fails.
define pip
$(BIN)/python -m pip install --disable-pip-version-check --upgrade-strategy only-if-needed $(1) >> $(LOG) 2>&1 || { \
  tail -n 15 $(LOG); echo; \
  if grep -qE 'Connection|connection|timed out|Timeout|resolution|SSLError|ProxyError' $(LOG); then \
    echo "The package index could not be reached. Behind a proxy set HTTPS_PROXY; with a mirror set PIP_INDEX_URL;"; \
    echo "without a network put the wheels into a folder: PIP_NO_INDEX=1 PIP_FIND_LINKS=/that/folder make"; \
  else echo "Installing failed; all that pip said is in $(LOG)."; fi; exit 1; }
endef
