# The verbs of this repository; `make help` lists them. What takes arguments is done by `byoc`.

PYTHON ?= python3
# Where PyTorch comes from, here and in the image: empty means pip's own configuration. See README.md.
TORCH_INDEX_URL ?=
PYTEST_ARGS ?=
# One process for the tests of the image and one for the rest: most tests wait, they do not compute.
TEST_PROCESSES ?= 2
IMAGE_ARGS ?=
DEMO_ARGS ?=
export TORCH_INDEX_URL

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := $(shell sed -n '/^torch==/p' requirements-dev.txt)

.DEFAULT_GOAL := help
.PHONY: help setup lint type test image demo docs clean

help: ## Say what each verb does
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## Make .venv with everything that the other verbs need

$(STAMP): requirements-dev.txt setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, $$($(PYTHON) --version 2>&1) was found. Name another one: make PYTHON=python3.12 setup"; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; } >&2
	$(PYTHON) -m venv $(VENV)
	@# PyTorch first and by exact version, so that a local folder of wheels or TORCH_INDEX_URL decides which build.
	$(BIN)/python -m pip install $(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL)) '$(TORCH)'
	$(BIN)/python -m pip install --constraint requirements-dev.txt --editable '.[dev,local]'
	@touch $@

lint: setup type ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup ## Check types (mypy --strict)
	$(BIN)/mypy
	MYPYPATH=opt_ml_template/code $(BIN)/mypy --untyped-calls-exclude torch opt_ml_template/prepare_data.py opt_ml_template/code

test: setup ## Run every test that this machine can run, and say what was left out (PYTEST_ARGS=...)
	$(BIN)/python -m pytest tests -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

image: setup ## Build the image sagemaker-byoc:latest (IMAGE_ARGS="--with-horovod mpi")
	$(BIN)/byoc build $(IMAGE_ARGS)

demo: setup ## Train on real digits, serve the model, ask it: everything in one go (DEMO_ARGS=...)
	$(BIN)/byoc demo $(DEMO_ARGS)

docs: setup ## Run the commands of README and tutorial, check every link and reference table
	$(BIN)/python -m pytest tests/docs $(PYTEST_ARGS)

clean: ## Remove the environment and caches
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
