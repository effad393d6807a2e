# `make demo` and `make test` do their whole set-up in .venv the first time; `make help` lists the rest.
PYTHON ?= python3
TORCH ?= pypi
BIN := .venv/bin
STAMP := .venv/.ready-$(TORCH)
STORE ?= .zoetrope

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-demo lint types layers unit lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## install everything into .venv (TORCH=cpu takes PyTorch's CPU build)

$(STAMP): infra/locks/zoetrope.lock infra/setup/install.py pyproject.toml setup.py
	@$(PYTHON) infra/setup/install.py --torch $(TORCH) --stamp $@

demo: $(STAMP) ## raw video to promoted model on this machine, and one HTML report
	@$(BIN)/zoetrope run nano --store $(STORE)

test: lint types layers unit ## everything that must be green

lint: $(STAMP) ## ruff
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	@mkdir -p .typing/zoetrope && for root in components pipelines model infra; do ln -sfn ../../$$root .typing/zoetrope/$$root; done
	@$(BIN)/mypy -p zoetrope.infra -p zoetrope.model -p zoetrope.components -p zoetrope.pipelines

layers: $(STAMP) ## who may import whom
	@$(BIN)/lint-imports --no-cache | tail -n 12

unit: $(STAMP) ## pytest
	@$(BIN)/python -m pytest

test-demo: $(STAMP) ## the demo at full size, with what it has to show (about 8 minutes)
	@$(BIN)/python -m pytest -m demo tests/acceptance

lock: ## resolve infra/locks/*.in into the one hashed lock
	@.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" infra/locks/core.in infra/locks/dev.in -o infra/locks/zoetrope.lock

clean: ## remove the environment and the local state
	rm -rf .venv .typing .zoetrope
