#!/usr/bin/env bash
# Memcheck over the build that users get: reads and writes out of bounds, and decisions by what was never written.
#
#   tests/native/valgrind.sh [pytest arguments instead of the chosen tests]
#
# Valgrind's CPU has AVX2 and no AVX-512, so the best level is v3 wherever this runs; baseline is the other one tested.
# It is about fifty times as slow, so the tests chosen reach every kernel with small arrays.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-$PWD/.venv/bin/python}
[ $# -gt 0 ] || set -- tests/optimizers/test_kernels.py tests/native/test_vectors.py -k "special_values or maxima or two_loops"

command -v valgrind > /dev/null || { [ "$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq valgrind; } ||
    { echo "make valgrind needs valgrind: apt-get install valgrind, or your system's way"; exit 1; }
export PYTHONMALLOC=malloc       # Python's own allocator would hide the borders of its blocks
export OPENBLAS_NUM_THREADS=1 OPTIMLITE_NUM_THREADS=3
valgrind --quiet --error-exitcode=99 --fair-sched=yes --num-callers=20 --suppressions=tests/native/valgrind.supp \
    --gen-suppressions=all "$python" -m pytest -p no:cacheprovider --capture=sys "$@"
