# The gradients of a step: their norm, and which can be changed where they lie: zeroed while it runs, or clipped.

import numpy as np

cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport qsort

from .parameters cimport AddressRanges, ParameterCore, find_bounds, in_fortran_order, same_layout
from .plans cimport TENSOR_COST, Plan, SparsePlan
from .runtime cimport Kernel, run_jobs
from .table cimport BLOCK, Entry, Format, VectorKernel

cnp.import_array()

cdef struct Block:               # of a gradient
    VectorKernel kernel
    void* gradient
    const Format* format         # NULL: the float type
    Py_ssize_t n
    double result

cdef struct Blocks:              # gathered into jobs of about BLOCK elements: many small gradients are one job
    Block* block
    Py_ssize_t* first            # block of each job
    Py_ssize_t jobs


cdef void run_blocks(void* context, Py_ssize_t k) noexcept nogil:
    # last job first: a step that follows finds the arrays that it begins with in the cache
    cdef const Blocks* blocks = <const Blocks*> context
    cdef Py_ssize_t job = blocks.jobs - 1 - k, i
    cdef Block* block
    cdef double[BLOCK] values
    cdef void* vector
    for i in range(blocks.first[job], blocks.first[job + 1]):
        block, vector = &blocks.block[i], blocks.block[i].gradient
        if block.format != NULL:
            block.format.decode(vector, NULL, values, block.n)
            vector = values
        block.result = 0.0
        block.kernel(&vector, 1, NULL, block.n, &block.result)


# The entries of parameter i's gradient: the rows that a sparse one touches; a dense one is read as a whole, also by
# rules that are stepped row by row.

cdef inline Py_ssize_t first_part(Plan plan, Py_ssize_t i, bint some_sparse) noexcept:
    return plan.first_entry(i) if some_sparse and plan.is_sparse(i) else i


cdef inline Py_ssize_t end_part(Plan plan, Py_ssize_t i, bint some_sparse) noexcept:
    return plan.end_entry(i) if some_sparse and plan.is_sparse(i) else i + 1


cdef uint64_t bound_at(list plans) except? 0:
    # A number that is another one when gradients were bound anew in any of the plans, whose counts only grow.  Not the
    # process's count: somebody may have assigned a gradient since they were bound.
    cdef Plan plan
    cdef uint64_t total = 0
    for plan in plans:
        total += plan.bound_assignments
    return total


cdef class BoundGradients:
    """What is known of the gradients that are bound in plans, found anew only where one of any parameter was replaced.

    Plans that sparse gradients can be bound in are looked at every time: their values may be others.
    """
    cdef list plans                      # those whose memory was looked at
    cdef uint64_t plans_at               # their `bound_at` then
    cdef bint apart
    cdef list summed                     # those whose gradients were cut into blocks
    cdef uint64_t summed_at
    cdef object level                    # the kernels' in these blocks
    cdef Blocks blocks
    cdef Py_ssize_t n_blocks

    def __dealloc__(self):
        PyMem_Free(self.blocks.block)

    def disjoint(self, list plans not None):
        """Whether the gradients share no memory among each other."""
        cdef uint64_t at = bound_at(plans)
        if self.plans_at != at or self.plans != plans:
            self.plans = None
            self.apart = disjoint(plans)
            self.plans_at, self.plans = at, plans
        return self.apart

    def sum(self, list plans not None, level, terms) -> float:
        """The sum of a vector kernel's result over all gradients: `terms(plans, level)` makes [(kernel, plan), ...]."""
        cdef double result = 0.0
        cdef uint64_t at = bound_at(plans)
        cdef Py_ssize_t k
        if self.summed_at != at or self.level != level or self.summed != plans:
            self.summed = None
            self.summed_at, self.level = at, level
            if self.cut(terms(plans, level)):
                self.summed = plans
        run_jobs(run_blocks, &self.blocks, self.blocks.jobs)
        for k in range(self.n_blocks):
            result = result + self.blocks.block[k].result
        return result

    cdef bint cut(self, list terms) except -1:
        # whether that holds until a gradient is replaced
        cdef Py_ssize_t most = 0, n = 0, i, k, at, itemsize, weight = BLOCK
        cdef Kernel kernel
        cdef Plan plan
        cdef Block* block
        cdef const Entry* entry
        cdef const Format* format
        cdef bint some_sparse, any_sparse = False
        for _, plan in terms:
            some_sparse = isinstance(plan, SparsePlan)
            any_sparse = any_sparse or some_sparse
            for i in range(plan.count):
                for k in range(first_part(plan, i, some_sparse), end_part(plan, i, some_sparse)):
                    most += plan.entries[k].size // BLOCK + 1
        block = <Block*> PyMem_Realloc(self.blocks.block, most * sizeof(Block) + (most + 1) * sizeof(Py_ssize_t))
        if not block:
            raise MemoryError
        self.blocks.block, self.blocks.first, self.blocks.jobs = block, <Py_ssize_t*> (block + most), 0
        for kernel, plan in terms:
            some_sparse = isinstance(plan, SparsePlan)
            for i in range(plan.count):
                if not plan.entries[i].grad:
                    continue
                for k in range(first_part(plan, i, some_sparse), end_part(plan, i, some_sparse)):
                    format = plan.beside[i].gradient if plan.beside != NULL and k == i else NULL
                    itemsize = format.bytes if format != NULL else kernel.row.itemsize
                    entry, at = &plan.entries[k], 0
                    while at < entry.size:
                        if weight >= BLOCK:
                            self.blocks.first[self.blocks.jobs] = n
                            self.blocks.jobs += 1
                            weight = 0
                        block = &self.blocks.block[n]
                        block.kernel, block.n = kernel.row.vector, min(<Py_ssize_t> BLOCK, entry.size - at)
                        block.gradient, block.format = <char*> entry.grad + at * itemsize, format
                        weight += block.n + TENSOR_COST
                        at += BLOCK
                        n += 1
        self.blocks.first[self.blocks.jobs], self.n_blocks = n, n
        return not any_sparse


cdef struct Range:
    uintptr_t begin
    uintptr_t end


cdef int by_begin(const void* a, const void* b) noexcept nogil:
    return ((<const Range*> a).begin > (<const Range*> b).begin) - ((<const Range*> a).begin < (<const Range*> b).begin)


def not_zeroable_in_place(list plans not None):
    """The bound parameters whose gradient is read-only, or was copied because it can't be used where it lies."""
    cdef Plan plan
    cdef ParameterCore parameter
    cdef Py_ssize_t i
    cdef list found = []
    for plan in plans:
        for i in range(plan.count):
            parameter = <ParameterCore> (<list> plan.parameters)[i]
            if plan.entries[i].grad and not plan.is_sparse(i) and (
                    plan.copies[i] is not None or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray> parameter.gradient)):
                found.append(parameter)
    return found


cdef bint has_sparse(Plan plan) noexcept:
    cdef Py_ssize_t i
    for i in range(plan.count):
        if plan.is_sparse(i):
            return True
    return False


cdef bint disjoint(list plans) except -1:
    cdef Plan plan
    cdef Py_ssize_t n = 0, i
    cdef Range* ranges
    cdef bint result
    for plan in plans:
        if has_sparse(plan):                        # whose values stay: another gradient takes its place
            return False
        n += plan.count
    ranges = <Range*> PyMem_Malloc((n + 1) * sizeof(Range))
    if not ranges:
        raise MemoryError
    n = 0
    for plan in plans:
        for i in range(plan.count):
            if plan.entries[i].grad and plan.entries[i].size:
                ranges[n].begin = <uintptr_t> plan.entries[i].grad
                ranges[n].end = ranges[n].begin + <uintptr_t> (plan.entries[i].size * plan.gradient_itemsize(i))
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


cdef cnp.ndarray dense_gradient(ParameterCore parameter):
    if not isinstance(parameter.gradient, cnp.ndarray):
        raise TypeError("a sparse gradient can't be clipped in place; use step(max_grad_norm=...) or "
                        "step(max_grad_value=...)")
    return parameter.gradient


def clippable_in_place(parameters, AddressRanges memory not None):
    """The gradients, if all are contiguous, aligned, writeable and share no memory, with `memory` or among each other.

    Otherwise None: some need a closer look.
    """
    cdef ParameterCore parameter
    cdef cnp.ndarray gradient
    cdef list found = []
    cdef Range* ranges
    cdef Py_ssize_t i
    cdef bint apart
    for parameter in parameters:
        if parameter.gradient is not None:
            dense_gradient(parameter)
    for parameter in parameters:
        if parameter.gradient is None or not cnp.PyArray_SIZE(parameter.array):
            continue
        gradient = parameter.gradient
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
        find_bounds(gradient, &ranges[i].begin, &ranges[i].end)
    apart = lie_apart(ranges, len(found))
    PyMem_Free(ranges)
    return found if apart else None


def in_parameter_order(parameters):
    """The gradients with their elements in the order of the parameters' memory; copies where they lie otherwise."""
    cdef ParameterCore parameter
    cdef list found = []
    for parameter in parameters:
        if parameter.gradient is None:
            continue
        if same_layout(parameter.array, dense_gradient(parameter)):
            found.append(parameter.gradient)
        else:
            found.append(np.array(parameter.gradient, order="F" if in_fortran_order(parameter.array) else "C"))
    return found
