# Everything runs in .venv, which is made on first use; see CONTRIBUTING.md.
#
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
#
# takes PyTorch's smaller CPU build where pip would fetch the one for CUDA (Linux).

PIP_ARGS ?=
WORKERS ?= 2
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -c constraints.txt $(PIP_ARGS)
INPUTS := pyproject.toml constraints.txt

.PHONY: help demo test napari lint format bench clean

help:
	@echo "make demo    segment the sample pictures; results in demo_output/"
	@echo "make napari  open napari with a sample picture and the Prompt widget"
	@echo "make test    lint, then all tests, the napari ones in a virtual displays"
	@echo "make lint    ruff and mypy        make format  let ruff put the style right"
	@echo "make bench   benchmarks           make clean   remove .venv and what the tools left"

demo: .venv/.core
	$(BIN)/python examples/demo.py

napari: .venv/.all
	scripts/prepare.sh display
	$(BIN)/python examples/open_napari.py

test: lint
	scripts/prepare.sh display
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

lint: .venv/.all
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/.all
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/.all
	scripts/prepare.sh display
	$(BIN)/pytest benchmarks --benchmark-only

clean:
	rm -rf .venv demo_output build dist .pytest_cache .mypy_cache .ruff_cache .benchmarks .hypothesis

# Stamps: what is done is not done again until the requirements change.
.venv/.made:
	scripts/prepare.sh venv
	@touch $@

.venv/.core: $(INPUTS) | .venv/.made
	$(PIP) -e .
	@touch $@

.venv/.all: $(INPUTS) | .venv/.made
	$(PIP) -e '.[all,dev]'
	@touch $@ .venv/.core
