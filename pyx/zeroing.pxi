# Which gradients can be changed where they lie: zeroed while a step runs, or clipped.

cdef struct Range:
    uintptr_t begin
    uintptr_t end


cdef int by_begin(const void* a, const void* b) noexcept nogil:
    return ((<const Range*> a).begin > (<const Range*> b).begin) - ((<const Range*> a).begin < (<const Range*> b).begin)


def unusual(list plans not None):
    """The bound leaves whose gradient is read-only, or was copied because it can't be used where it lies."""
    cdef Plan plan
    cdef Leaf leaf
    cdef Py_ssize_t i
    cdef list found = []
    for plan in plans:
        for i in range(plan.count):
            leaf = <Leaf> (<list> plan.leaves)[i]
            if plan.rows[i].grad and not plan.is_sparse[i] and (
                    plan.copies[i] is not None or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray> leaf.gradient)):
                found.append(leaf)
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
    cdef bint result
    for plan in plans:
        if plan.n_sparse:                        # whose values stay: another gradient takes its place
            return False
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
    result = lie_apart(ranges, n)
    PyMem_Free(ranges)
    return result


cdef bint lie_apart(Range* ranges, Py_ssize_t n) noexcept:
    cdef Py_ssize_t i
    qsort(ranges, n, sizeof(Range), by_begin)
    for i in range(1, n):
        if ranges[i].begin < ranges[i - 1].end:
            return False
    return True


cdef cnp.ndarray dense_gradient(Leaf leaf):
    if not isinstance(leaf.gradient, cnp.ndarray):
        raise TypeError("a sparse gradient can't be clipped in place; use step(max_grad_norm=...) or "
                        "step(max_grad_value=...)")
    return leaf.gradient


def plain_gradients(leaves, Memory memory not None):
    """The gradients, if all are contiguous, aligned, writeable and share no memory, with `memory` or among each other.

    Otherwise None: some need a closer look.
    """
    cdef Leaf leaf
    cdef cnp.ndarray gradient
    cdef list found = []
    cdef Range* ranges
    cdef Py_ssize_t i
    cdef bint apart
    for leaf in leaves:
        if leaf.gradient is not None:
            dense_gradient(leaf)
    for leaf in leaves:
        if leaf.gradient is None or not cnp.PyArray_SIZE(leaf.array):
            continue
        gradient = leaf.gradient
        if not (cnp.PyArray_ISWRITEABLE(gradient) and cnp.PyArray_ISALIGNED(gradient)
                and (cnp.PyArray_IS_C_CONTIGUOUS(gradient) or cnp.PyArray_IS_F_CONTIGUOUS(gradient))
                and not memory.overlaps(gradient)):
            return None
        found.append(gradient)
    ranges = <Range*> PyMem_Malloc((len(found) + 1) * sizeof(Range))
    if not ranges:
        raise MemoryError
    for i in range(len(found)):
        gradient = found[i]
        ranges[i].begin = <uintptr_t> cnp.PyArray_DATA(gradient)
        ranges[i].end = ranges[i].begin + <uintptr_t> cnp.PyArray_NBYTES(gradient)
    apart = lie_apart(ranges, len(found))
    PyMem_Free(ranges)
    return found if apart else None


def laid_out(leaves):
    """The gradients with their elements in the order of the parameters' memory; copies where they lie otherwise."""
    cdef Leaf leaf
    cdef list found = []
    for leaf in leaves:
        if leaf.gradient is None:
            continue
        if same_layout(leaf.array, dense_gradient(leaf)):
            found.append(leaf.gradient)
        else:
            found.append(np.array(leaf.gradient, order="C" if cnp.PyArray_IS_C_CONTIGUOUS(leaf.array) else "F"))
    return found
