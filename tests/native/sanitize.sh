#!/usr/bin/env bash
# Builds a copy of the project with sanitizers and runs the tests there; whatever a sanitizer reports is a failure.
#
#   tests/native/sanitize.sh address,undefined|thread [pytest arguments]
#
# The copy, build/sanitize/address or build/sanitize/thread, leaves the ordinary build as it is.  Reports go to files,
# because no test looks at the exit status of every child.  UBSan beside ASan can only print, so pytest leaves what is
# printed beyond Python alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
sanitizers=$1; shift
kind=${sanitizers%%,*}
python=${PYTHON:-$PWD/.venv/bin/python}
tree=$PWD/build/sanitize/$kind

mkdir -p "$tree/build"
find "$tree" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
tar --exclude-vcs --exclude=./build --exclude=./dist --exclude=./.venv --exclude=__pycache__ --exclude='*.so' -cf - . |
    tar -xf - -C "$tree"
cd "$tree"
OPTIMLITE_SANITIZE=$sanitizers "$python" setup.py -q build_ext --build-lib build/lib > build/log 2>&1 ||
    { cat build/log; exit 1; }
ln -s "$tree"/build/lib/optimlite/native/*.so optimlite/native/

runtime() {              # to be loaded first, because the interpreter isn't built with it
    realpath --canonicalize-existing --quiet "$(gcc -print-file-name="lib$1.so")" ||
        { echo "make sanitize needs gcc with its lib$1" >&2; exit 1; }
}
reports=$tree/build/reports
rm -rf "$reports"; mkdir "$reports"
export PYTHONPATH=$tree OPENBLAS_NUM_THREADS=1 OPTIMLITE_TEST_PATIENCE=20
case $kind in
address)
    tests=(tests)
    # Python's own allocator would hide the borders of its blocks.  The interpreter never frees everything at its end.
    # Tests ask for more memory than there is, and expect MemoryError.  The C++ runtime is for exceptions in others' modules.
    run=(env PYTHONMALLOC=malloc LD_PRELOAD="$(runtime asan) $(runtime stdc++)"
         ASAN_OPTIONS="log_path=$reports/asan:detect_leaks=0:allocator_may_return_null=1"
         UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1) ;;
thread)
    # CPython and NumPy are not instrumented: of their code it sees locks, threads and memory, but no reads and writes.
    # No suppressions are needed so far.  It doesn't follow forks of processes that have threads.
    tests=(tests/native/test_{threads,vectors,processes}.py tests/engine/test_{step,step_memory,zero_grad,own_optimizer}.py \
        tests/checkpoint/test_background.py -k "not fork")
    # Its shadow memory has fixed addresses: no address space layout randomisation.
    run=(setarch -R env LD_PRELOAD="$(runtime tsan)"
         TSAN_OPTIONS="log_path=$reports/tsan:die_after_fork=0:exitcode=66") ;;
esac

"${run[@]}" "$python" -c "
import optimlite.native.runtime as core
libraries = {line.split()[-1] for line in open('/proc/self/maps')}
assert '$tree' in core.__file__ and any('lib${kind:0:1}san' in name for name in libraries), (core.__file__, libraries)"
[ $# -gt 0 ] || set -- "${tests[@]}"
status=0
"${run[@]}" "$python" -m pytest -p no:cacheprovider --capture=sys --hypothesis-profile=few -m "not plain and not slow and not long and not large" "$@" ||
    status=$?
found=$(find "$reports" -type f | wc -l)
find "$reports" -type f -exec cat {} +
echo "$sanitizers: $found reports"
exit $((status ? status : found > 0))
