# On a fresh machine with Python, pip and make: `make train` trains a model, `make test` passes the tests.
# `make train ARGS="dataset=names train.steps=500"` passes settings on to train.py.

PYTHON ?= python3
ARGS ?=
EXAMPLES ?= 2500
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup train test check docs format torture fuzz bench sweep example tensorboard

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: .venv/dev  ## install everything, including the development tools

train: .venv/run  ## train on an embedded corpus; ARGS="dataset=names model=modern" changes corpus and model
	$(BIN)/python train.py $(ARGS)

test: .venv/dev  ## run all tests; ARGS="-k resume" selects some
	$(BIN)/python -m pytest $(ARGS)

check: .venv/dev  ## lint, and check format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

torture: .venv/dev  ## kill programs again and again, and compare with unbroken ones; ARGS="kills=500 seed=1"
	$(BIN)/python tests/torture.py $(ARGS)

fuzz: .venv/dev  ## read many random files, for minutes; EXAMPLES=20000 reads more, ARGS="-k archive" only some
	MICROGPT_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/test_fuzz_*.py $(ARGS)

bench: .venv/dev  ## measure the speed, and write docs/performance.md; ARGS="sections=start,step" measures a part
	$(BIN)/python benchmarks/bench.py $(ARGS)

docs: .venv/dev  ## build the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict --quiet

format: .venv/dev  ## format the code and sort its imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sweep: .venv/run  ## train briefly on every corpus; ARGS="train.steps=500" trains longer
	$(BIN)/python train.py -m 'dataset=glob(*,exclude=file)' train.steps=50 train.val_every=50 $(ARGS)

example: .venv/dev  ## train on names, and write the page of the run to docs/example.html
	$(BIN)/python train.py dataset=names hydra.run.dir=outputs/names/example $(ARGS)
	$(BIN)/microgpt page run=outputs/names/example out=docs/example.html

tensorboard: .venv/run  ## show all runs in a browser
	$(BIN)/tensorboard --logdir outputs $(ARGS)

.venv/run: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

.venv/dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch .venv/run $@
