# Everyday commands. `make` shows them; CONTRIBUTING.md says more.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml $(shell find ext -name '*.[ch]') $(wildcard vledge/_ext/*.px[dix] vledge/_ext/*.pyx)
# What the live comparisons need; CI installs it, a board need not.
PEERS := torch==2.13.0 onnxruntime==1.32.0 onnx==1.23.2 onnxscript==0.7.2 \
	matplotlib==3.11.2 pillow==13.0.0 h5py==3.16.0 keras==3.15.1 \
	pyarrow==26.0.1 distributed==2026.8.0

help:
	@echo "make demo       set up and run the demo: 370 real series through a trained GRU"
	@echo "make test       set up and run the tests"
	@echo "make check      what CI runs: lint, types, the site, all tests with torch and onnxruntime, the"
	@echo "                wheel, three models recorded by them and validated from the wheel without"
	@echo "make lint       ruff, mypy, clang-format and cython-lint"
	@echo "make wheel      build sdist and wheel, look them over; the demo from the wheel in an empty venv"
	@echo "make validation the wheel; three models recorded by torch and onnxruntime, validated without"
	@echo "make sanitize   the compiled code under sanitizers and valgrind; SANITIZE=address one of them,"
	@echo "                LONG=--long all tests that reach it"
	@echo "make emulated   AVX-512 and VNNI lane by lane, and their tests, on a CPU that has AVX2 only"
	@echo "make fuzz       readers and operators under changed inputs, MINUTES=30 for each"
	@echo "make attacks    what files that ask for too much cost, as a table"
	@echo "make reliability  writers killed, long streams, many loads, Ctrl-C: their figures"
	@echo "make arm        the tests on emulated 64- and 32-bit Arm, and an aarch64 wheel"
	@echo "make operators  onnx's backend tests, counted; rewrites docs/records/onnx-operators.md"
	@echo "make bench      the benchmark against every installed peer"
	@echo "make records    every record of docs/records anew, on this machine: hours"
	@echo "make docs       the site, in build/docs; make screenshots, as a browser shows it"
	@echo "make clean      remove what was built"

demo: $(VENV)/.demo
	$(BIN)/vledge demo

# Stamps say what an environment has; its folder would say so when half of it is there. Each adds to
# the one before.
$(VENV)/.demo: tools/set_up.sh $(SOURCES)
	sh tools/set_up.sh $(PYTHON) $(VENV)
	touch $@

$(VENV)/.test: $(VENV)/.demo
	sh tools/set_up.sh $(PYTHON) $(VENV) test
	touch $@

$(VENV)/.check: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --no-build-isolation -e '.[dev]' $(PEERS)
	touch $@

$(VENV)/.docs: $(VENV)/.demo
	sh tools/set_up.sh $(PYTHON) $(VENV) docs
	touch $@

test: $(VENV)/.test
	$(BIN)/python -m pytest $(TESTS)

lint: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(find ext -name '*.[ch]')
	PATH="$(abspath $(BIN)):$$PATH" cython-lint vledge/_ext/*.pyx vledge/_ext/*.px[di]

# The same test command with every peer there: a live comparison that would be skipped fails.
check: lint docs
	VLEDGE_REQUIRE_PEERS=1 $(MAKE) test
	$(MAKE) validation paths

wheel: $(VENV)/.check
	sh tools/check_wheel.sh $(BIN)/python

validation: wheel
	$(BIN)/python -m tests.real_models.whole_path dist/*.whl

# Two users' ways, from nothing to a model that runs.
paths: wheel
	sh tests/paths/torch_user.sh $(BIN)/python dist/*.whl
	sh tests/paths/onnx_user.sh $(BIN)/python dist/*.whl examples/audio/station.wav

# A warning is an error. What is on the pages is looked at by tests/docs.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "build/docs/index.html"

# Four pages as pictures, at two widths, and whether any page of the site is wider than its window.
screenshots: docs
	$(BIN)/python tools/screenshots.py

emulated: $(VENV)/.test
	sh tools/emulated.sh $(BIN)/python $(TESTS)

sanitize: $(VENV)/.test
	sh tools/sanitize.sh $(BIN)/python $(or $(SANITIZE),all) $(LONG)

reliability: $(VENV)/.test
	$(BIN)/python -m benchmarks.reliability all

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

records: bench operators $(VENV)/.check
	$(BIN)/python -m benchmarks.fidelity
	$(BIN)/python -m benchmarks.footprint --write
	$(BIN)/python -m benchmarks.score --write
	$(BIN)/python -m benchmarks.threads --write
	$(BIN)/python -m benchmarks.quantization --write
	$(BIN)/python -m benchmarks.quantization --isa avx2 --write
	$(BIN)/python -m benchmarks.lengths --pictures docs/pictures
	$(BIN)/vledge bench --latency --histogram docs/pictures/latency.png

clean:
	rm -rf build dist *.egg-info $(patsubst %.pyx,%.c,$(wildcard vledge/_ext/*.pyx)) vledge/_ext/*.so

.PHONY: help demo test lint check wheel validation paths screenshots emulated sanitize fuzz attacks reliability arm operators bench records docs clean
