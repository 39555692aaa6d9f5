# Which gradients a step may zero while it runs.

cdef struct Range:
    uintptr_t begin
    uintptr_t end


cdef int by_begin(const void* a, const void* b) noexcept nogil:
    return ((<const Range*> a).begin > (<const Range*> b).begin) - ((<const Range*> a).begin < (<const Range*> b).begin)


def unusual(list plans not None):
    """The bound leaves whose gradient is read-only, or was copied because it can't be used where it lies."""
    cdef Plan plan
    cdef Py_ssize_t i
    cdef list found = []
    for plan in plans:
        for i in range(plan.count):
            if plan.rows[i].grad and (plan.copies[i] is not None or not cnp.PyArray_ISWRITEABLE(
                    <cnp.ndarray> (<Leaf> (<list> plan.leaves)[i]).gradient)):
                found.append(plan.leaves[i])
    return found


cdef class Apart:
    """Whether the gradients bound in plans share no memory among each other; found anew only where one was replaced."""
    cdef uint64_t assignments
    cdef list plans
    cdef bint result

    def check(self, list plans not None):
        if self.assignments != assignments or self.plans != plans:
            self.result = disjoint(plans)
            self.assignments, self.plans = assignments, plans
        return self.result


cdef bint disjoint(list plans) except -1:
    cdef Plan plan
    cdef Py_ssize_t n = 0, i
    cdef Range* ranges
    cdef bint result = True
    for plan in plans:
        n += plan.count
    ranges = <Range*> PyMem_Malloc((n + 1) * sizeof(Range))
    if not ranges:
        raise MemoryError
    n = 0
    for plan in plans:
        for i in range(plan.count):
            if plan.rows[i].grad and plan.rows[i].size:
                ranges[n].begin = <uintptr_t> plan.rows[i].grad
                ranges[n].end = ranges[n].begin + <uintptr_t> cnp.PyArray_NBYTES((<Leaf> plan.leaves[i]).array)
                n += 1
    qsort(ranges, n, sizeof(Range), by_begin)
    for i in range(1, n):
        if ranges[i].begin < ranges[i - 1].end:
            result = False
    PyMem_Free(ranges)
    return result
