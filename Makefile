# `make` prints what there is to do. Everything a target needs is set up first, and only when something changed.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile --constraint tests/constraints.txt
NATIVE := build/native
NATIVE_SOURCES := $(shell find native -name CMakeLists.txt -o -name '*.cmake' -o -name '*.cpp' -o -name '*.h')
CPP := $(filter %.cpp %.h,$(NATIVE_SOURCES)) benchmarks/floor.cpp
# The first Python that is at least 3.10; empty where there is none.
SYSTEM_PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; raise SystemExit(sys.version_info < (3, 10))' 2>/dev/null && { command -v $$python; break; }; done)

.PHONY: help setup build test lint format demo docs bench fuzz gpu-check study-gpu doctor clean system-packages

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/.built ## make .venv with all that the other targets need (quick when nothing changed)

build: $(VENV)/.built ## build the native engine into the checkout

system-packages:
	@test -n "$(SYSTEM_PYTHON)" || { echo "no Python 3.10 or newer found: install one (Debian, Ubuntu: python3 python3-venv python3-dev)"; exit 1; }
	@native/install-system-packages.sh $(SYSTEM_PYTHON)

$(BIN)/python: | system-packages
	@echo "making $(VENV) with $(SYSTEM_PYTHON)"
	@$(SYSTEM_PYTHON) -m venv $(VENV)

# What a build needs is there before the build, which is not isolated so that it can be repeated in place; when only
# native/ changed, only the engine is built again.
$(VENV)/.built: pyproject.toml tests/constraints.txt $(NATIVE_SOURCES) | system-packages $(BIN)/python
	$(if $(filter-out native/%,$?),$(install_all),$(build_engine))
	@touch $@

define install_all
@echo "installing what pyproject.toml names into $(VENV) (the first time takes minutes)"
@$(PIP) setuptools wheel scikit-build-core nanobind
@$(PIP) --no-build-isolation --editable '.[dev]'
endef
define build_engine
@echo "building the native engine"
@$(PIP) --no-build-isolation --no-deps --editable .
endef

test: setup $(NATIVE)/build.ninja ## run all tests, of native/ too
	@native/install-system-packages.sh $(SYSTEM_PYTHON) test || echo "tests of launchers that are missing are skipped"
	@cmake --build $(NATIVE)
	@ctest --test-dir $(NATIVE) --output-on-failure
	@$(BIN)/python -m pytest

$(NATIVE)/build.ninja: native/CMakeLists.txt $(VENV)/.built
	@cmake -S native -B $(NATIVE) -G Ninja -DCMAKE_BUILD_TYPE=Release -DSHARDPROF_WERROR=ON >/dev/null

lint: setup $(NATIVE)/build.ninja ## check style, types, import contracts and the C++ sources
	@native/install-system-packages.sh $(SYSTEM_PYTHON) lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	clang-format --dry-run -Werror $(CPP)
	@echo clang-tidy; printf '%s\n' $(filter-out native/bindings/% benchmarks/%,$(filter %.cpp,$(CPP))) | \
		xargs -P "$$(nproc)" -n 1 clang-tidy -p $(NATIVE) --quiet 2>/dev/null

format: setup ## rewrite the sources in the project's style
	@native/install-system-packages.sh $(SYSTEM_PYTHON) lint
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	clang-format -i $(CPP)

demo: setup ## record and explain two real trainings, FSDP2 and DeepSpeed ZeRO-3
	@PATH="$(CURDIR)/$(BIN):$$PATH" python -m shardprof.study.demo

docs: setup ## build the site of the documentation into build/site (shown by opening build/site/index.html)
	@PATH="$(CURDIR)/$(BIN):$$PATH" NO_MKDOCS_2_WARNING=1 mkdocs build --strict --config-file docs/site/mkdocs.yml
	@echo "built: build/site/index.html"

bench: setup $(NATIVE)/build.ninja ## measure what reading and recording cost on this machine (half an hour, most of it HTA's)
	@PATH="$(CURDIR)/$(BIN):$$PATH" python benchmarks/reading_speed.py
	@PATH="$(CURDIR)/$(BIN):$$PATH" python benchmarks/recording_overhead.py --output benchmarks/results/recording_overhead.json
	@cmake --build $(NATIVE) && PATH="$(CURDIR)/$(BIN):$$PATH" python benchmarks/nccl_plugin_cost.py

gpu-check: setup ## check on a GPU what can only be told there, and keep a small run in traces/
	@$(BIN)/python tests/gpu/check.py

study-gpu: setup ## compare the strategies on one GPU: what each framework costs where nothing is sent
	@$(BIN)/shardprof bench run benchmarks/studies/one-gpu.toml
	@$(BIN)/shardprof bench report shardprof-studies/one-gpu

fuzz: setup ## fuzz what untrusted bytes reach, 10 million executions a target (needs clang)
	@native/fuzz/run.sh

doctor: setup ## what works on this machine
	@$(BIN)/shardprof doctor

clean: ## remove everything that make made, but no recorded runs
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
