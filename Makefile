# Every command a user or CI needs. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# ultralytics and EasyOCR ask the network for news when they start; tests and demo need none.
export YOLO_OFFLINE := true
export YOLO_AUTOINSTALL := false
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help setup demo test test-fast check fix bench golden clean
.DEFAULT_GOAL := help

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv and install everything, pinned

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	@echo "installing torch (the largest part; a few minutes on a slow line) ..."
	$(BIN)/pip install --quiet -c constraints.txt torch torchvision
	@echo "installing the rest ..."
	$(BIN)/pip install --quiet -c constraints.txt -e '.[all,dev]'
	@touch $@

demo: setup ## Annotate synthetic scenes and photos with real models; pictures in demo/ (a few minutes)
	$(BIN)/fld demo demo

test: setup ## All tests that need neither a GPU nor a model hub (under 15 minutes on 2 cores)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: setup ## Tests without Ray, servers and weights (two or three minutes on 2 cores)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not ray and not weights and not s3"

check: setup ## Read-only: lint, format, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fix: setup ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## Measure speed and memory, as ratios in one run; writes bench/
	$(BIN)/python -m tests.bench

golden: setup ## Write the golden files anew; review the diff
	$(BIN)/python -m pytest tests/engine/test_golden.py --update-golden

clean: ## Remove what demo and bench wrote
	rm -rf demo bench
