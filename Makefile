# make example: set up .venv and run the example job.  make test: set up .venv, then run the linters and the fast tests.
# make test-slow: run the tests that take minutes.  make test-chaos: run the tests that are too long for CI.
# make bench: set up .venv and compare the forward pass with other libraries.
# make audit: check the pinned dependencies for known vulnerabilities.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: example test lint test-slow test-chaos bench audit clean

example: .venv/ready
	$(BIN)/python examples/ner_corpus.py

test: .venv/ready-dev lint
	$(BIN)/python -m pytest -m "not slow and not chaos"

test-slow: .venv/ready-dev .venv/ready-bench .airflow/ready
	$(BIN)/python -m pytest -m "slow and not chaos"

test-chaos: .venv/ready-dev .airflow/ready
	$(BIN)/python -m pytest -m chaos

bench: .venv/ready-bench
	$(BIN)/python benchmarks/forward.py

audit: .audit/ready
	.audit/bin/python .ci/audit.py

.audit/ready: Makefile
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	touch $@

# the packages of an Airflow worker, without distilray's own dependencies
.airflow/ready: tests/deploy/airflow-requirements.txt
	$(PYTHON) -m venv .airflow
	.airflow/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
		--requirement tests/deploy/airflow-requirements.txt
	touch $@

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/ready: pyproject.toml constraints.txt
	@echo "Installing torch, Ray and the other dependencies into .venv: 1.7 GB, some minutes"
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	touch $@

.venv/ready-dev: .venv/ready
	$(PIP) --editable '.[dev]'
	touch $@

.venv/ready-bench: .venv/ready
	$(PIP) --editable '.[bench]'
	touch $@

clean:
	rm -rf .venv .audit .airflow out build .mypy_cache .ruff_cache .pytest_cache .hypothesis
