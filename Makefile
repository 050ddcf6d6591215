# Everyday commands. `make` shows them; CONTRIBUTING.md says more.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml ext/threads.c $(wildcard ext/*.pyx ext/*.h ext/simd/* ext/program/* vledge/_ext/*.pxd)
# What the live comparisons need; CI installs it, a board need not.
PEERS := torch==2.13.0 onnxruntime==1.32.0 onnx==1.23.2 onnxscript==0.7.2 \
	matplotlib==3.11.2 pillow==13.0.0 h5py==3.16.0 keras==3.15.1

help:
	@echo "make demo       set up and run the demo: 370 real series through a trained GRU"
	@echo "make test       set up and run the tests"
	@echo "make check      what CI runs: lint, types, all tests with torch and onnxruntime, the wheel,"
	@echo "                three models recorded by them and validated from the wheel without"
	@echo "make lint       ruff and mypy"
	@echo "make wheel      build sdist and wheel; run the demo from the wheel in an empty environment"
	@echo "make validation the wheel; three models recorded by torch and onnxruntime, validated without"
	@echo "make sanitize   kernel tests under the address and undefined-behaviour sanitizers"
	@echo "make fuzz       readers and operators under changed inputs, MINUTES=30 for each"
	@echo "make attacks    what files that ask for too much cost, as a table"
	@echo "make arm        the tests on emulated 64- and 32-bit Arm, and an aarch64 wheel"
	@echo "make operators  onnx's backend tests, counted; rewrites docs/onnx-operators.md"
	@echo "make bench      the benchmark against every installed peer"
	@echo "make clean      remove what was built"

demo: $(VENV)/.demo
	$(BIN)/vledge demo

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.test: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@ $(VENV)/.demo

$(VENV)/.check: $(VENV)/.test
	$(BIN)/python -m pip install --quiet -e '.[dev]' $(PEERS)
	touch $@

test: $(VENV)/.test
	$(BIN)/python -m pytest $(TESTS)

lint: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The same test command with every peer there: a live comparison that would be skipped fails.
check: lint
	VLEDGE_REQUIRE_PEERS=1 $(MAKE) test
	$(MAKE) validation

wheel: $(VENV)/.check
	sh tools/check_wheel.sh $(BIN)/python

validation: wheel
	$(BIN)/python -m tests.real_models.whole_path dist/*.whl

sanitize: $(VENV)/.test
	sh tools/sanitize.sh $(BIN)/python

MINUTES ?= 30

fuzz: $(VENV)/.check
	$(BIN)/python -m tests.fuzz.run --minutes $(MINUTES) $(HARNESS)

attacks: $(VENV)/.check
	$(BIN)/python -m tests.attacks.measured

arm:
	PYTHON=$(PYTHON) tools/arm_test.sh arm64
	PYTHON=$(PYTHON) tools/arm_test.sh armhf
	PYTHON=$(PYTHON) tools/arm_test.sh arm64 --wheel

operators: $(VENV)/.check
	$(BIN)/python tools/onnx_coverage.py

bench: $(VENV)/.test
	$(BIN)/python -m pip install --quiet -e '.[bench]' torch==2.13.0
	$(BIN)/python -m benchmarks --write-readme
	$(BIN)/python -m benchmarks.models --write

clean:
	rm -rf build dist *.egg-info $(patsubst %.pyx,%.c,$(wildcard ext/*.pyx)) vledge/_ext/*.so

.PHONY: help demo test lint check wheel validation sanitize fuzz attacks arm operators bench clean
