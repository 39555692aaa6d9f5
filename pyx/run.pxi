# One native call for a whole step: packs the coefficients of every class, runs all parts over the pool, stores scalars.

cdef enum:
    COMMON = 3                   # coefficients that every rule has, the first in its struct
    PAY = 6                      # parts from which on a second thread pays, on a busy machine too


# What they are where they aren't given, in the order of Common in sweep.pxi: grad_scale, limit, l2.
cdef double* NEUTRAL = [1.0, INFINITY, 0.0]

cdef struct Part:
    Sweep sweep
    const Work* work
    Py_ssize_t first
    Py_ssize_t last


cdef class Rule:
    """A compiled update rule: Rule(*RULES[name]) of a kernel module."""
    cdef Sweep sweep
    cdef readonly int slots
    cdef readonly tuple fields
    cdef readonly int itemsize

    def __init__(self, capsule, int slots, tuple fields not None, int itemsize):
        self.sweep = <Sweep> PyCapsule_GetPointer(capsule, "optimlite.sweep")
        self.slots, self.fields, self.itemsize = slots, fields, itemsize

    cdef int pack(self, dict coefficients, void* out) except -1:
        # float64 values, cast once, in the order of the rule's struct
        cdef Py_ssize_t k, given = 0
        cdef double value
        cdef PyObject* found
        for k in range(len(self.fields)):
            found = PyDict_GetItemWithError(coefficients, self.fields[k])
            if found != NULL:
                value = <object> found
                given += 1
            elif k < COMMON:
                value = NEUTRAL[k]
            else:
                raise TypeError(f"the rule needs a coefficient `{self.fields[k]}`, got {sorted(coefficients)}")
            if self.itemsize == 4:
                (<float*> out)[k] = <float> value
            else:
                (<double*> out)[k] = value
        if given != len(coefficients):
            raise TypeError(f"the rule has the coefficients {self.fields}, got {sorted(coefficients)}")
        return 0


cdef void run_part(void* context, Py_ssize_t k) noexcept nogil:
    cdef Part* part = (<Part*> context) + k
    cdef uint64_t mode = flush_begin()
    part.sweep(part.work, part.first, part.last)
    flush_end(mode)


def execute(list runs not None, bint zero_grad=False) -> None:
    """Runs a whole step: [(plan, class, rule, coefficients, new scalar state), …], after `prepare` of each plan.

    Everything that can fail comes first.  No Python code runs in between: an interrupt leaves all or nothing done.
    """
    cdef Py_ssize_t n = len(runs), k, c, j, n_parts = 0
    cdef Plan plan
    cdef Rule rule
    cdef Work* work
    cdef Part* parts
    cdef char* hyper
    cdef void* block
    for plan, c, _, _, _ in runs:
        n_parts += plan.first_part[c + 1] - plan.first_part[c]
    block = PyMem_Malloc(n * (sizeof(Work) + HYPER * sizeof(double)) + n_parts * sizeof(Part) + 1)
    if not block:
        raise MemoryError
    try:
        work = <Work*> block
        hyper = <char*> (work + n)
        parts = <Part*> (hyper + n * HYPER * sizeof(double))
        n_parts = 0
        for k, (plan, c, rule, coefficients, _) in enumerate(runs):
            rule.pack(coefficients, hyper)
            work[k].rows, work[k].spans, work[k].hyper, work[k].zero_grad = plan.rows, plan.spans, hyper, zero_grad
            hyper += HYPER * sizeof(double)
            for j in range(plan.first_part[c], plan.first_part[c + 1]):
                parts[n_parts].sweep, parts[n_parts].work = rule.sweep, &work[k]
                parts[n_parts].first, parts[n_parts].last = plan.part[j], plan.part[j + 1]
                n_parts += 1
        for plan, c, _, _, scalars in runs:
            plan.store(c, scalars)
        if n_parts < PAY:
            for j in range(n_parts):             # shorter than a change of threads: not worth giving up the GIL
                run_part(parts, j)
        else:
            with nogil:
                pool_run(run_part, parts, n_parts, max_threads)
    finally:
        PyMem_Free(block)
