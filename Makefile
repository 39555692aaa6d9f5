# One verb per chore. Each makes .venv if needed and installs what its job needs; a second call is quick.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES := setup.py pyproject.toml $(wildcard pyx/*) $(wildcard pyx/rules/*)
TORCH := torch==2.13.0
FUZZ ?= checkpoint state_dict groups arrays schedulers
PARALLEL := skipped_parameters or added_mid_run or closed_form or two_threads or (resume_is_exact and SGD and StepLR)
ARGS ?=

.PHONY: demo test test-long bench lint parity kill-test fuzz sanitize valgrind large-test coverage mutation pythons \
  parallel-test package clean

demo: .venv/for-demo            ## train on handwritten digits; ARGS=--quick for a short run
	$(BIN)/python examples/digits.py $(ARGS)

test: .venv/for-test            ## the test suite; ARGS="-k name" for a part of it
	$(BIN)/python -m pytest $(ARGS)

test-long: .venv/for-test       ## 10,000 examples of each property; 1,000 steps of each optimizer on 1 to 8 threads
	$(BIN)/python -m pytest -m "hypothesis or long" --hypothesis-profile=long tests/test_any_order.py \
	    tests/test_accuracy.py tests/test_properties.py tests/test_determinism.py tests/test_closure_evaluations.py $(ARGS)

bench: .venv/for-bench          ## the benchmark table; ARGS=--quick, --json FILE, --plot FILE.png
	$(BIN)/python -m benchmarks $(ARGS)

lint: .venv/for-lint            ## ruff, mypy, cython-lint
	$(BIN)/ruff check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint pyx          # it calls pycodestyle by name

parity: .venv/for-parity        ## against PyTorch 2.13.0, live
	$(BIN)/python -m pytest tests/parity $(ARGS)

kill-test: .venv/for-test       ## saves killed 1,000 times at random moments, 1,000 saves in the background
	$(BIN)/python -m pytest -m long $(wildcard tests/test_checkpoint*.py) $(ARGS)

fuzz: .venv/for-fuzz            ## atheris on what parses or validates, each target a minute; FUZZ=checkpoint, ARGS=-runs=1000000
	for target in $(FUZZ); do \
	  mkdir -p build/fuzz/$$target && cp tests/fuzz/corpus/$$target/* build/fuzz/$$target && \
	  $(BIN)/python tests/fuzz/$$target.py build/fuzz/$$target -artifact_prefix=build/fuzz-$$target- \
	    $(or $(ARGS),-max_total_time=60) || exit 1; done

sanitize: .venv/for-native      ## the suite with ASan and UBSan, and with ThreadSanitizer what uses threads; ARGS="-k name"
	tests/native/sanitize.sh address,undefined $(ARGS)
	tests/native/sanitize.sh thread $(ARGS)

valgrind: .venv/for-test        ## memcheck over kernels, up to AVX2
	tests/native/valgrind.sh $(ARGS)

large-test: .venv/for-test      ## beyond 2**31 elements: 17.2 GB of memory
	$(BIN)/python -m pytest -m large -rs tests $(ARGS)

coverage: .venv/for-coverage    ## lines of Python and Cython that the tests run, >= 95 % together; needs gcov
	$(BIN)/python tests/covering/run.py $(ARGS)

mutation: .venv/for-mutation    ## small changes to schedulers and state: >= 85 % must fail a test; ARGS=_state.py for a part
	$(BIN)/python tests/mutation/run.py $(ARGS)

pythons:                        ## the suite on every CPython >= 3.11 of this machine, with the oldest NumPy and the newest
	$(PYTHON) tests/pythons.py $(ARGS)

parallel-test: .venv/for-parallel    ## the tests named here, each in 8 Python threads at once, 10 times over
	$(BIN)/python -m pytest --parallel-threads=8 --iterations=10 --skip-thread-unsafe=true -k "$(PARALLEL)" $(ARGS)

package: .venv/for-package      ## the sdist, the wheel built from it, its size, and a first step from a clean install
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	test $$(stat -c %s dist/*.whl) -lt 1000000
	rm -rf build/clean && $(PYTHON) -m venv build/clean
	build/clean/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd build && clean/bin/python -c "import numpy as np, optimlite as ol; a = np.ones(3); \
	ol.Adam([a]).step(grads=[np.ones(3)]); assert a[0] < 1; print('wheel works:', ol.__file__)"

clean:
	rm -rf .venv build dist *.egg-info optimlite/*.so examples/output .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/for-demo: .venv/bin/python $(SOURCES)
	$(PIP) --editable '.[demo]' && touch $@

.venv/for-test: .venv/bin/python $(SOURCES)
	$(PIP) --editable '.[test,demo]' && touch $@

.venv/for-bench: .venv/bin/python $(SOURCES)
	$(PIP) --editable '.[plot]' && touch $@

.venv/for-lint: .venv/bin/python $(SOURCES)
	$(PIP) --editable '.[lint,test]' && touch $@

.venv/for-parity: .venv/for-test
	$(PIP) $(TORCH) && touch $@

.venv/for-fuzz: .venv/for-test
	$(PIP) --editable '.[test,fuzz]' && touch $@

.venv/for-native: .venv/for-test
	$(PIP) 'setuptools>=77' 'Cython>=3.1' && touch $@

.venv/for-coverage: .venv/for-test
	$(PIP) 'coverage>=7.10' 'Cython>=3.1' 'setuptools>=77' && touch $@

.venv/for-mutation: .venv/for-test
	$(PIP) mutmut==3.8.1 && touch $@

.venv/for-parallel: .venv/for-test
	$(PIP) pytest-run-parallel && touch $@

.venv/for-package: .venv/bin/python
	$(PIP) build && touch $@
