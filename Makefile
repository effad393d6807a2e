# `make demo` and `make test` do their whole set-up in .venv the first time; `make help` lists the rest.
PYTHON ?= python3
TORCH ?= pypi
BIN := .venv/bin
STAMP := .venv/.ready-$(TORCH)
STORE ?= .zoetrope
# of `make images`: where to push, another Debian 12 to build on, options of `docker build`, only some of the images
REGISTRY ?=
BASE_IMAGE ?=
BUILD_OPTIONS ?=
IMAGES ?=
# of `make e2e` and `make e2e-faults`: `keep` builds no images; options of pytest, of tests.e2e.faults
E2E_IMAGES ?=
E2E_OPTIONS ?=
# processes of the tests
WORKERS ?= 2
# of `make overlay`
OVERLAY ?= dev
# of `make scaffold`: step, filter or metric, and what it shall be called
KIND ?=
NAME ?=
# of `make golden-numbers`: recipes whose data pipeline is run for the digest of its dataset (nano: minutes)
RUNS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-demo lint types layers unit lock images test-images e2e e2e-faults overlay golden golden-numbers scaffold clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

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

# By file, slow files first: tests of a file share what is dear to make, and no long file is left for the end.
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

unit: $(STAMP) ## pytest (WORKERS=2 processes)
	@$(PYTEST)

test-fast: lint $(STAMP) ## lint, and the tests of files that are not slow: before each commit, under two minutes
	@$(PYTEST) -m "not demo and not images and not e2e and not slow"

test-demo: $(STAMP) ## the demo at full size, with what it has to show (about 8 minutes)
	@$(BIN)/python -m pytest -m demo tests/acceptance

LOCKS := infra/locks
COMPILE = .venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"
# The packages of the layer /opt/torch: the environments beside it do not install them again.
IN_TORCH_LAYER = $$(sed -nE 's/^((torch|triton|nvidia-|cuda-)[a-z0-9-]*)(==|\[).*/--no-emit-package=\1/p' $(LOCKS)/image-torch.lock)

lock: ## resolve infra/locks/*.in into hashed locks: one for this machine, one for each image
	@$(COMPILE) $(LOCKS)/core.in $(LOCKS)/dev.in -o $(LOCKS)/zoetrope.lock
	@for name in core torch tracking build; do \
		$(COMPILE) --constraint $(LOCKS)/zoetrope.lock $(LOCKS)/image-$$name.in -o $(LOCKS)/image-$$name.lock || exit; done
	@$(COMPILE) --constraint $(LOCKS)/zoetrope.lock $(IN_TORCH_LAYER) $(LOCKS)/image-train.in -o $(LOCKS)/image-train.lock
	@$(COMPILE) $(IN_TORCH_LAYER) $(LOCKS)/vbench.in -o $(LOCKS)/vbench.lock

images: $(STAMP) ## build and push the images of the cluster, write images.lock (REGISTRY=host/prefix)
	@$(BIN)/python -m zoetrope.infra.images.build --registry "$(REGISTRY)" --base-image "$(BASE_IMAGE)" \
		--build-options="$(BUILD_OPTIONS)" $(IMAGES:%=--image %)

test-images: $(STAMP) ## run each image of images.lock as the cluster does (needs Docker)
	@$(BIN)/python -m pytest -m images tests/images

# KUBECONFIG and the variables of docs/cluster-runs.md; E2E_IMAGES=keep takes images.lock as it is
e2e: $(STAMP) ## what must work on a real cluster, which KUBECONFIG names
	@if [ -z "$$KUBECONFIG" ]; then echo "e2e: not run, KUBECONFIG names no cluster"; exit 0; fi; \
	if [ "$(E2E_IMAGES)" != keep ]; then $(MAKE) images || exit; fi; \
	$(BIN)/python -m tests.e2e.install && $(BIN)/python -m pytest -m e2e -n 2 --dist loadfile tests/e2e $(E2E_OPTIONS)

e2e-faults: $(STAMP) ## faults injected into runs on that cluster (hours; goes on where it was stopped)
	@if [ -z "$$KUBECONFIG" ]; then echo "e2e-faults: not run, KUBECONFIG names no cluster"; exit 0; fi; \
	$(BIN)/python -m tests.e2e.faults $(E2E_OPTIONS)

overlay: $(STAMP) ## write OVERLAY=dev|prod|profile with the digests of images.lock to .zoetrope/overlays, for kubectl apply -k
	@$(BIN)/python -m zoetrope.infra.images.overlay $(OVERLAY) $(STORE)/overlays/$(OVERLAY)

golden: $(STAMP) ## compile what is committed in pipelines/compiled (after a change of pipelines or recipes)
	@$(BIN)/zoetrope compile
	@$(BIN)/zoetrope compile --target cluster --images tests/fixtures/images.lock --commit '' --out pipelines/compiled/cluster

golden-numbers: $(STAMP) ## compute losses, norms and digests of this type of CPU again (RUNS="tiny nano": of whole runs too)
	@$(BIN)/python -m tests.golden --runs $(RUNS)

scaffold: $(STAMP) ## write what a new part begins with (KIND=step|filter|metric NAME=...)
	@$(BIN)/python -m zoetrope.infra.setup.scaffold "$(KIND)" "$(NAME)"

clean: ## remove the environment and the local state
	rm -rf .venv .typing .zoetrope
