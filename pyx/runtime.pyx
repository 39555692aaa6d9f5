# What every compiled module uses: the CPU's level, threads, the mode for subnormal numbers, kernels, scalar arithmetic.

cimport cython
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport floor, frexp, ldexp, sqrt
from libc.stdint cimport int64_t, uint64_t

from .table cimport EVERYTHING, FORMAT, GROUP, HYPER, MODIFIER, RULE, SCALARS, TABLE, VECTOR, KernelRow

# CPU levels ----------------------------------------------------------------------------------------------------------

cdef extern from *:
    """
    #if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
    static int cpu_has_v3(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi")
            && __builtin_cpu_supports("bmi2");
    }
    static int cpu_has_v4(void) {
        return cpu_has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int cpu_has_v3(void) { return 0; }
    static int cpu_has_v4(void) { return 0; }
    #endif
    """
    bint cpu_has_v3() noexcept nogil
    bint cpu_has_v4() noexcept nogil


def cpu_supports(str level not None) -> bool:
    """Whether this CPU (and its operating system) runs code compiled for "baseline", "v3" or "v4"."""
    return level == "baseline" or (level == "v3" and cpu_has_v3()) or (level == "v4" and cpu_has_v4())


# Threads -------------------------------------------------------------------------------------------------------------

cdef extern from "pool.h" nogil:
    ctypedef void (*pool_task)(void* context, Py_ssize_t part) noexcept nogil
    int pool_init() noexcept
    int pool_started() noexcept
    int pool_eager
    int max_threads
    void pool_run(pool_task task, void* context, Py_ssize_t parts, int threads) noexcept

cdef enum:
    MIN_JOBS_FOR_THREADS = 6     # below, waking a second thread, or giving up the GIL, costs more than it saves

if pool_init() != 0:
    raise MemoryError("the thread pool could not register its fork handler")


def set_num_threads(int threads) -> None:
    global max_threads
    max_threads = threads


def get_num_threads() -> int:
    return max_threads


def pool_size() -> int:
    """How many worker threads this process has started so far (0 before the first large step, and after a fork)."""
    return pool_started()


def set_pool_eager(bint eager) -> None:
    """For tests: whether every job is for all threads, also where that doesn't pay."""
    global pool_eager
    pool_eager = eager


# Subnormal numbers ---------------------------------------------------------------------------------------------------

cdef extern from "flush.h" nogil:
    int flush_wanted
    int flush_supported() noexcept
    uint64_t flush_begin() noexcept
    void flush_end(uint64_t begun) noexcept


def set_flush_denormal(bint mode) -> bool:
    """Whether this CPU can do so; where it can't, nothing is changed."""
    global flush_wanted
    if flush_supported():
        flush_wanted = mode
    return flush_supported() != 0


def get_flush_denormal() -> bool:
    return flush_wanted != 0


# Jobs ----------------------------------------------------------------------------------------------------------------

cdef struct Jobs:
    Task task
    void* context


cdef void run_job(void* context, Py_ssize_t job) noexcept nogil:
    cdef uint64_t mode = flush_begin()
    (<Jobs*> context).task((<Jobs*> context).context, job)
    flush_end(mode)


cdef void run_jobs(Task task, void* context, Py_ssize_t jobs) noexcept:
    cdef Jobs all = Jobs(task, context)
    cdef Py_ssize_t k
    if jobs < MIN_JOBS_FOR_THREADS:
        for k in range(jobs):
            run_job(&all, k)
    else:
        with nogil:
            pool_run(run_job, &all, jobs, max_threads)


# Kernels -------------------------------------------------------------------------------------------------------------

include "coefficients.pxi"       # COEFFICIENTS: the names in each struct of a rule file, in order; setup.py writes it

cdef dict KINDS = {RULE: "rule", VECTOR: "vector", FORMAT: "format", MODIFIER: "modifier"}


cdef tuple names(bytes struct):
    return tuple(COEFFICIENTS[struct.decode()].split()) if struct else ()


cdef class Kernel:
    """A row of a kernel module's table: Kernel(name, *kernels()[name]).

    Raises ValueError for a row of a module that was built from other declarations.
    """

    def __init__(self, bytes name not None, capsule, bytes coefficients not None, bytes scalars not None):
        self.row = <const KernelRow*> PyCapsule_GetPointer(capsule, TABLE)
        self.name, self.scalars = name.decode(), names(scalars)
        self.fields = names(b"Common") + names(coefficients) if self.row.kind == RULE else ()
        if len({*self.fields, *self.scalars}) < len(self.fields) + len(self.scalars) or len(self.fields) > HYPER \
                or len(self.scalars) > SCALARS:
            raise TypeError(f"kernel '{self.name}' must have at most {HYPER} + {SCALARS} coefficients, none called "
                            f"twice, got {self.fields} + {self.scalars}")

    @property
    def kind(self) -> str:
        return KINDS[self.row.kind]

    @property
    def itemsize(self) -> int:
        return self.row.itemsize

    @property
    def slots(self) -> int:
        """State arrays of a parameter's shape."""
        return self.row.slots

    @property
    def line_states(self) -> int:
        """State arrays with a value for each row or for each column."""
        return self.row.line_states

    @property
    def by_rows(self) -> bool:
        """Whether a plan cuts parameters into rows, which the rule measures one by one."""
        return self.row.by_rows

    @property
    def own_scalars(self) -> int:
        """Scalars of state, the last, that the rule moves for each tensor."""
        return self.row.own_scalars

    @property
    def measures(self) -> int:
        """Passes before the last."""
        return self.row.n_passes

    @property
    def by_group(self) -> bool:
        """Whether the numbers that it measures are combined over several tensors alone."""
        return self.row.n_passes > 0 and self.row.passes[0].scope in (GROUP, EVERYTHING)

    @property
    def maxima(self) -> int:
        """How many of a vector kernel's results, the last, are maxima; the others are sums."""
        return self.row.maxima

    @property
    def yields(self) -> bool:
        """Whether a rule yields its update instead of writing the parameter."""
        return not self.row.whole

    def __repr__(self):
        return f"Kernel('{self.name}', {self.kind}, float{8 * self.itemsize})"


# Scalar arithmetic that must give the same bits on every CPU ---------------------------------------------------------

cdef enum:
    ATANH = 25                   # last power of the series, whose argument is below 0.18
    TAYLOR = 14                  # last power of the series, whose argument is below 0.35

cdef double LN2_HIGH = 6.93147180369123816490e-01    # ln 2 in two parts: multiples of the first are exact
cdef double LN2_LOW = 1.90821492927058770002e-10


def power(double base, int64_t exponent) -> float:
    """base ** exponent by repeated squaring: only multiplications, where the C library's pow differs between CPUs."""
    return to_power(base, exponent)


cdef double to_power(double base, int64_t exponent) noexcept:
    cdef double result = 1.0
    while exponent > 0:
        if exponent & 1:
            result = result * base
        base = base * base
        exponent >>= 1
    return result


@cython.cdivision(False)         # by zero raises, as in Python: where somebody has set a step count of -1
def moments(double lr, tuple betas not None, int64_t t) -> dict:
    """Coefficients of Adam's two means in step t, without their bias, for the rules that have them."""
    cdef double beta1, beta2
    beta1, beta2 = betas
    return {"beta1": beta1, "fresh1": 1.0 - beta1, "beta2": beta2, "fresh2": 1.0 - beta2,
            "step_size": lr / (1.0 - to_power(beta1, t)), "inv_root_bias2": 1.0 / sqrt(1.0 - to_power(beta2, t))}


cdef double logarithm(double x) noexcept:
    # of a finite x > 0: of its mantissa m in [sqrt(1/2), sqrt(2)) as 2 * atanh((m - 1) / (m + 1)), and of its exponent
    cdef int exponent, k
    cdef double m = frexp(x, &exponent), z, series = 0.0
    if m < 0.7071067811865476:
        m = 2.0 * m
        exponent -= 1
    z = (m - 1.0) / (m + 1.0)
    for k in range(ATANH, 0, -2):
        series = series * (z * z) + 1.0 / k
    return exponent * LN2_HIGH + (exponent * LN2_LOW + 2.0 * z * series)


cdef double exponential(double x) noexcept:
    # 2^whole * exp(rest)
    cdef double whole, rest, series = 1.0
    cdef int k
    x = min(max(x, -1000.0), 1000.0)     # beyond: 0 and infinity
    whole = floor(x / (LN2_HIGH + LN2_LOW) + 0.5)
    rest = x - whole * LN2_HIGH - whole * LN2_LOW
    for k in range(TAYLOR, 0, -1):
        series = 1.0 + series * rest / k
    return ldexp(series, <int> whole)


def real_power(double base, double exponent) -> float:
    """base ** exponent for a finite base > 0: from + - * / alone, where the C library's pow differs between CPUs."""
    return exponential(exponent * logarithm(base))


def real_log(double x) -> float:
    """The natural logarithm of a finite x > 0, likewise."""
    return logarithm(x)
