# Two commands set everything up by themselves: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH := runs/bench
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-all check format bench

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

$(INSTALLED): requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e '.[dev]'
	touch $@

demo: $(INSTALLED)  ## the whole pipeline on configs/toy.yaml, on the CPU
	$(BIN)/python pipeline.py --config configs/toy.yaml

test: $(INSTALLED)  ## the fast tests, the end-to-end test among them
	$(PYTEST) -m "not slow" --cov --cov-report=
	@echo "coverage: $$($(BIN)/coverage report --format=total) % of the lines, those run in other processes left out"

test-slow: $(INSTALLED)  ## the tests that take minutes
	$(PYTEST) -m slow

test-all: $(INSTALLED)  ## every test, the slow ones too
	$(PYTEST)

check: $(INSTALLED)  ## ruff, mypy and the import contract, as in CI
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

format: $(INSTALLED)  ## rewrite the code in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## the benchmarks in their short form, minutes; figures in runs/bench
	$(BIN)/python -m dataset_tools synthesize data/synthetic
	$(BIN)/python -m benchmarks.colour_baseline data/synthetic --csv $(BENCH)/colour_baseline.csv
	$(BIN)/python -m benchmarks.loader data/loader_benchmark_short --images 6 --rounds 1 --batches 8 --csv $(BENCH)/loader.csv
	$(BIN)/python -m benchmarks.convert_scale --files 200 400 --csv $(BENCH)/convert_scale.csv
	$(BIN)/python -m benchmarks.memory_saving --crop 128 --csv $(BENCH)/memory_saving.csv
	$(BIN)/python -m benchmarks.supernet_step --short --csv $(BENCH)/supernet_step.csv
	$(BIN)/python -m benchmarks.scale --short --csv $(BENCH)/scale.csv
	$(BIN)/python -m benchmarks.student_step --crop 64 128 --rounds 3 --csv $(BENCH)/student_step.csv
	$(BIN)/python -m benchmarks.losses --size 128 256 --rounds 3 --csv $(BENCH)/losses.csv
	$(BIN)/python -m benchmarks.inference --size 128 256 --rounds 3 --csv $(BENCH)/inference.csv
