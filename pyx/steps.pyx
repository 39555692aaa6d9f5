# A step: what is known of a parameter, the pointer table of a group, and one native call for everything.
#
# Nothing here knows an update rule, or the float type that a kernel works with.

import os

import numpy as np

cimport numpy as cnp
from cpython.dict cimport PyDict_GetItemWithError
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport PyObject
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memcpy, memset

from .runtime cimport Kernel, run_jobs
from .table cimport (BLOCK, EVERYTHING, GROUP, HYPER, LARGEST, LINES, MODIFIER, NUMBERS, OWN, PASSES, RULE, SCALARS,
                     SLOTS, TENSOR, TILE, TILE_ROWS, Between, Entry, Format, KernelRow, Lines, Own, Pass, Scope, Span,
                     Sums, Sweep, VectorKernel, Work)

cnp.import_array()


# A parameter and its gradient ----------------------------------------------------------------------------------------

cdef inline bint fits(cnp.ndarray a, cnp.ndarray b) noexcept:
    # same dtype, byte order and shape; an array without axes has no DIMS
    cdef int d = cnp.PyArray_NDIM(a)
    return (cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(b) and d == cnp.PyArray_NDIM(b)
            and cnp.PyArray_ISNOTSWAPPED(a)
            and (d == 0 or memcmp(cnp.PyArray_DIMS(a), cnp.PyArray_DIMS(b), d * sizeof(cnp.npy_intp)) == 0))


cdef inline bint same_layout(cnp.ndarray a, cnp.ndarray b) noexcept:
    # b's elements stand in memory in the order of a's (a is contiguous one way or the other)
    return (cnp.PyArray_ISALIGNED(b)
            and (cnp.PyArray_IS_C_CONTIGUOUS(b) if cnp.PyArray_IS_C_CONTIGUOUS(a)
                 else cnp.PyArray_IS_F_CONTIGUOUS(b)))


cdef uint64_t assignments = 1    # counts changes of gradients in the process: plans look again when it moved
cdef int64_t steps_begun = 0     # each step has a ticket: the count when it began
cdef list under_way = []         # tickets of the steps that have gradients' addresses in use, oldest first
cdef list retired = []           # (last ticket then, gradient): replaced while steps were under way, kept till they end


cdef class ParameterCore:
    """A float array that is updated in place, and its gradient.

    The subclass's `accepts` is asked about gradients that aren't plain arrays which fit: it returns one or raises.
    """

    def __init__(self, cnp.ndarray array not None):
        if self.array is not None:
            raise RuntimeError("a Parameter keeps its array for life; assign to .data to copy values into it")
        self.array = self.array_reference = array
        self.gradient = None

    cdef void replace(self, gradient) noexcept:
        global assignments
        if under_way and self.gradient is not None:
            retired.append((steps_begun, self.gradient))
        self.gradient = self.extra_reference = gradient
        self.version += 1
        assignments += 1

    @property
    def grad(self):
        """The gradient: None, or an array of the parameter's shape and dtype."""
        return self.gradient

    @grad.setter
    def grad(self, value):
        if value is self.gradient:
            return
        if value is not None and not (cnp.PyArray_CheckExact(value) and fits(<cnp.ndarray> value, self.array)):
            value = self.accepts(value)
        self.replace(value)

    @grad.deleter
    def grad(self):
        self.replace(None)


def forget_gradients(parameters):
    """Sets every gradient to None."""
    cdef ParameterCore parameter
    for parameter in parameters:
        if parameter.gradient is not None:
            parameter.replace(None)


cdef class Stepping:
    """`with stepping:` no gradient's memory goes away, whoever assigns another one meanwhile, and no other step begins.

    A `with` statement on a compiled object, since an interrupt can strike between the lines of Python code before `try`
    and in `finally`, and an optimizer that was interrupted there would never step again.
    """
    cdef int64_t ticket                  # 0 outside of steps

    def __enter__(self):
        global steps_begun
        if self.ticket:
            raise RuntimeError("this optimizer is already stepping in another thread; "
                               "step it from one thread at a time, or use one optimizer per thread")
        under_way.append(steps_begun + 1)
        steps_begun += 1
        self.ticket = steps_begun

    def __exit__(self, kind, value, trace):
        cdef int64_t ticket = self.ticket
        self.ticket = 0
        if ticket in under_way:          # not in a child that was forked in between
            under_way.remove(ticket)
        while retired and (not under_way or retired[0][0] < under_way[0]):
            del retired[0]


def forget_steps() -> None:
    """In a child after fork: the steps of the parent's other threads don't go on here."""
    under_way.clear()
    retired.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_steps)


def assign_gradients(list parameters not None, list gradients not None):
    """parameter.grad = gradient for each pair: all are checked before the first is assigned."""
    cdef ParameterCore parameter
    cdef Py_ssize_t i
    for i in range(len(parameters)):
        parameter = parameters[i]
        value = gradients[i]
        if value is not None and not (cnp.PyArray_CheckExact(value) and fits(<cnp.ndarray> value, parameter.array)):
            gradients[i] = parameter.accepts(value)
    for i in range(len(parameters)):
        parameter = parameters[i]
        parameter.grad = gradients[i]


# Where parameters and state lie in memory ------------------------------------------------------------------------------

cdef class AddressRanges:
    """Sorted, disjoint address ranges. `AddressRanges(arrays)` takes contiguous arrays."""

    def __cinit__(self, arrays):
        cdef cnp.ndarray array
        cdef uintptr_t a, b
        ranges = sorted([(<uintptr_t> cnp.PyArray_DATA(array),
                          <uintptr_t> cnp.PyArray_DATA(array) + <uintptr_t> cnp.PyArray_NBYTES(array))
                         for array in arrays if cnp.PyArray_NBYTES(array)])
        self.begin = <uintptr_t*> PyMem_Malloc((len(ranges) + 1) * sizeof(uintptr_t))
        self.end = <uintptr_t*> PyMem_Malloc((len(ranges) + 1) * sizeof(uintptr_t))
        if not self.begin or not self.end:
            raise MemoryError
        for a, b in ranges:
            if self.count and a < self.end[self.count - 1]:
                self.overlapping = True
            if self.count and a <= self.end[self.count - 1]:
                self.end[self.count - 1] = max(b, self.end[self.count - 1])
                continue
            self.begin[self.count] = a
            self.end[self.count] = b
            self.count += 1

    def __dealloc__(self):
        PyMem_Free(self.begin)
        PyMem_Free(self.end)

    def overlaps(self, cnp.ndarray array not None) -> bool:
        # `array` is contiguous, as the ranges' arrays are
        cdef uintptr_t a = <uintptr_t> cnp.PyArray_DATA(array)
        cdef uintptr_t b = a + <uintptr_t> cnp.PyArray_NBYTES(array)
        cdef Py_ssize_t low = 0, high = self.count, middle
        while low < high:                # the first range that ends behind a
            middle = (low + high) >> 1
            if self.end[middle] > a:
                high = middle
            else:
                low = middle + 1
        return low < self.count and self.begin[low] < b


# Plans ---------------------------------------------------------------------------------------------------------------
#
# A plan is the pointer table of the parameters of one group that share a float type and a rule: checked once, cut into
# spans for the threads.  Parameters with equal scalar state form a cohort and step together; normally there is one.

cdef enum:
    TENSOR_COST = 64             # what visiting a tensor costs, in elements
    SKIPPED = -1                 # the cohort of parameters without a gradient


cdef int new_cut(Cut* cut, Py_ssize_t spans) except -1:
    free_cut(cut)
    cut.spans = <Span*> PyMem_Malloc((spans + 1) * sizeof(Span))
    cut.first_span = <Py_ssize_t*> PyMem_Malloc((spans + 2) * sizeof(Py_ssize_t))
    if not (cut.spans and cut.first_span):
        raise MemoryError
    return 0


cdef void free_cut(Cut* cut) noexcept:
    PyMem_Free(cut.spans)
    PyMem_Free(cut.first_span)
    cut.spans, cut.first_span = NULL, NULL
    cut.n_spans = cut.n_jobs = 0


cdef void begin_cohort(Cut* cut, Py_ssize_t cohort) noexcept:
    cut.first_job[cohort] = cut.n_jobs
    cut.weight = BLOCK                   # a job is of one cohort
    cut.first_span[cut.n_jobs] = cut.n_spans


cdef void add_spans(Cut* cut, Py_ssize_t entry, Py_ssize_t count, Py_ssize_t most, Py_ssize_t unit) noexcept:
    # `count` units of so many elements, at most `most` in a span
    cdef Py_ssize_t begin = 0
    cdef Span* span
    while begin < count:
        if cut.weight >= BLOCK:
            cut.first_span[cut.n_jobs] = cut.n_spans
            cut.n_jobs += 1
            cut.weight = 0
        span = &cut.spans[cut.n_spans]
        span.entry, span.begin, span.end = entry, begin, min(begin + most, count)
        cut.weight += (span.end - begin) * unit + TENSOR_COST
        cut.n_spans += 1
        begin = span.end
    cut.first_span[cut.n_jobs] = cut.n_spans


cdef inline bint is_large(const Lines* lines) noexcept nogil:
    return lines.rows * lines.columns > TILE


cdef inline Py_ssize_t tiles_of(const Lines* lines) noexcept nogil:
    return lines.matrices * ((lines.columns + TILE - 1) // TILE) * ((lines.rows + TILE_ROWS - 1) // TILE_ROWS)


cdef class Plan:
    """Plan(parameters, kernel, scalars): `scalars` 0-d arrays (int64 or float64) of state for each parameter."""

    def __cinit__(self, list parameters not None, Kernel kernel not None, Py_ssize_t scalars):
        cdef Py_ssize_t n = len(parameters), i
        cdef ParameterCore parameter
        self.parameters, self.kernel, self.scalars = parameters, kernel, scalars
        self.count = self.n_entries = n
        self.states = kernel.row.slots + kernel.row.line_states
        self.keep_alive, self.copies, self.gathered = [None] * n, [None] * n, [None] * n
        self.entries = <Entry*> PyMem_Calloc(n + 1, sizeof(Entry))
        self.lines = <Lines*> PyMem_Calloc(n + 1, sizeof(Lines)) if kernel.row.lines != NULL else NULL
        self.scalar_address = <int64_t**> PyMem_Calloc(n * scalars + 1, sizeof(int64_t*))
        self.is_float = <uint8_t*> PyMem_Calloc(scalars + 1, 1)
        self.has_state = <uint8_t*> PyMem_Calloc(n + 1, 1)
        self.has_stepped = <uint8_t*> PyMem_Calloc(n + 1, 1)
        self.bound_version = <uint64_t*> PyMem_Calloc(n + 1, sizeof(uint64_t))
        self.cohort_of = <int32_t*> PyMem_Calloc(n + 1, sizeof(int32_t))
        self.representative = <Py_ssize_t*> PyMem_Calloc(n + 1, sizeof(Py_ssize_t))
        self.cut.first_job = <Py_ssize_t*> PyMem_Calloc(n + 2, sizeof(Py_ssize_t))
        self.line_cut.first_job = <Py_ssize_t*> PyMem_Calloc(n + 2, sizeof(Py_ssize_t))
        self.matrix_cut.first_job = <Py_ssize_t*> PyMem_Calloc(n + 2, sizeof(Py_ssize_t))
        if not (self.entries and (self.lines or kernel.row.lines == NULL) and self.scalar_address and self.is_float
                and self.has_state and self.has_stepped and self.bound_version and self.cohort_of
                and self.representative and self.cut.first_job and self.line_cut.first_job
                and self.matrix_cut.first_job):
            raise MemoryError
        self.stale = self.gradients_changed = True
        for i in range(n):
            parameter = parameters[i]
            self.place(i, parameter.array)
            self.bound_version[i] = parameter.version - 1
            self.cohort_of[i] = SKIPPED

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.lines != NULL:
            for i in range(self.count):
                PyMem_Free(self.lines[i].row_sums)
        PyMem_Free(self.entries)
        PyMem_Free(self.lines)
        PyMem_Free(self.scalar_address)
        PyMem_Free(self.is_float)
        PyMem_Free(self.has_state)
        PyMem_Free(self.has_stepped)
        PyMem_Free(self.bound_version)
        PyMem_Free(self.cohort_of)
        PyMem_Free(self.representative)
        PyMem_Free(self.cut.first_job)
        PyMem_Free(self.line_cut.first_job)
        PyMem_Free(self.matrix_cut.first_job)
        free_cut(&self.cut)
        free_cut(&self.line_cut)
        free_cut(&self.matrix_cut)

    cdef int place(self, Py_ssize_t i, cnp.ndarray array) except -1:
        # where parameter i is stepped: in its own memory, or in a copy whose elements lie side by side
        cdef int d = cnp.PyArray_NDIM(array), c = cnp.PyArray_IS_C_CONTIGUOUS(array)
        cdef Lines* lines
        if not c and (not cnp.PyArray_IS_F_CONTIGUOUS(array) or (self.lines != NULL and d > 2)):
            self.gathered[i] = array = np.empty(np.shape(array), array.dtype)
            self.n_gathered += 1
            c = True
        self.entries[i].param = cnp.PyArray_DATA(array)
        self.entries[i].size = cnp.PyArray_SIZE(array)
        if self.lines != NULL:
            lines = &self.lines[i]
            lines.flipped = not c
            lines.rows, lines.columns = cnp.PyArray_DIM(array, d - 2 if c else 1), cnp.PyArray_DIM(array, d - 1 if c else 0)
            lines.matrices = self.entries[i].size // (lines.rows * lines.columns) if self.entries[i].size else 0
        return 0

    def layout(self, Py_ssize_t i):
        """An array with the strides in which parameter i is stepped, and its gradient and state are laid out."""
        return self.gathered[i] if self.gathered[i] is not None else (<ParameterCore> self.parameters[i]).array

    def attach(self, Py_ssize_t i, list arrays not None, list scalars not None, bint has_stepped):
        """Enters parameter i's state into the table; the caller has checked dtype, shape and layout."""
        cdef cnp.ndarray array
        cdef Py_ssize_t k
        if len(arrays) != self.states or len(scalars) != self.scalars:
            raise ValueError(f"the rule '{self.kernel.name}' has {self.states} state arrays and {self.scalars} scalars, "
                             f"got {len(arrays)} and {len(scalars)}")
        for k, array in enumerate(arrays):
            self.entries[i].state[k] = cnp.PyArray_DATA(array)
            self.state_itemsize = cnp.PyArray_ITEMSIZE(array)
        for k, array in enumerate(scalars):
            self.scalar_address[i * self.scalars + k] = <int64_t*> cnp.PyArray_DATA(array)
            self.is_float[k] = cnp.PyArray_ISFLOAT(array)
        self.keep_alive[i] = (arrays, scalars, list(arrays))     # twice: NumPy resizes no array with two references
        self.has_state[i] = True
        self.has_stepped[i] = has_stepped

    def pending(self):
        """The parameters that have a gradient and no state yet, by their place in the plan."""
        return [i for i in range(self.count) if self.entries[i].grad and not self.has_state[i]]

    # Gradients

    cpdef bint bind(self, AddressRanges memory) except -1:
        """Enters the gradients as they are now; False if one is sparse, for which this plan has no room.

        Inside `with stepping`, which keeps the gradients' memory in place.
        """
        cdef Py_ssize_t i
        cdef ParameterCore parameter
        if self.bound_assignments != assignments:
            self.some_without_state = self.gradients_changed = True
            for i in range(self.count):
                parameter = <ParameterCore> (<list> self.parameters)[i]
                if parameter.version != self.bound_version[i] and not self.rebind(i, parameter, memory):
                    return False
            self.bound_assignments = assignments
        if self.n_copies or self.n_gathered:
            for i in range(self.count):
                if self.copies[i] is not None:
                    np.copyto(self.copies[i], (<ParameterCore> self.parameters[i]).gradient)
                if self.gathered[i] is not None:
                    np.copyto(self.gathered[i], (<ParameterCore> self.parameters[i]).array)
        return True

    cdef bint rebind(self, Py_ssize_t i, ParameterCore parameter, AddressRanges memory) except -1:
        cdef cnp.ndarray gradient, copy
        if self.copies[i] is not None:
            self.copies[i] = None
            self.n_copies -= 1
        if parameter.gradient is None:
            self.entries[i].grad = NULL
        elif not isinstance(parameter.gradient, cnp.ndarray):
            return False
        else:
            gradient = parameter.gradient
            if self.usable(i, parameter.array, gradient) and not memory.overlaps(gradient):
                self.entries[i].grad = cnp.PyArray_DATA(gradient)
            else:                                # strided, misaligned, or overlapping a parameter or state
                copy = np.empty_like(self.layout(i), subok=False)
                self.copies[i] = copy
                self.n_copies += 1
                self.entries[i].grad = cnp.PyArray_DATA(copy)
        self.bound_version[i] = parameter.version
        return True

    cdef bint usable(self, Py_ssize_t i, cnp.ndarray array, cnp.ndarray gradient):
        return same_layout(array if self.gathered[i] is None else <cnp.ndarray> self.gathered[i], gradient)

    def gradient(self, Py_ssize_t i):
        """Parameter i's gradient as kernels read it since `bind`: laid out as `layout`, overlapping none; or None."""
        return self.copies[i] if self.copies[i] is not None else (<ParameterCore> self.parameters[i]).gradient

    cdef void scatter(self) noexcept:
        # parameters that were stepped in a copy; after everything that can fail
        cdef Py_ssize_t i
        if self.n_gathered:
            for i in range(self.count):
                if self.gathered[i] is not None and self.entries[i].grad:
                    cnp.PyArray_CopyInto((<ParameterCore> self.parameters[i]).array, <cnp.ndarray> self.gathered[i])

    # Cohorts

    cpdef Py_ssize_t prepare(self) except? -2:
        """Returns the number of cohorts among those that `bind` gave a gradient; -1 where one still needs state."""
        cdef Py_ssize_t i
        if self.some_without_state:
            for i in range(self.count):
                if self.entries[i].grad and not self.has_state[i]:
                    return -1
            self.some_without_state = False
        self.point_states()
        if self.gradients_changed or not self.still_alike():
            self.classify()
            self.gradients_changed = False
        if self.stale:
            self.make_cuts()
        return self.cohorts

    cdef inline bint alike(self, Py_ssize_t i, Py_ssize_t j) noexcept:
        cdef Py_ssize_t k
        if self.has_stepped[i] != self.has_stepped[j]:
            return False
        for k in range(self.scalars):
            if self.scalar_address[i * self.scalars + k][0] != self.scalar_address[j * self.scalars + k][0]:
                return False
        return True

    cdef bint still_alike(self) noexcept:
        # whether the parameters of each cohort have equal scalars, as always unless somebody set one
        cdef Py_ssize_t i, k
        cdef int64_t* scalar
        cdef int64_t differ = 0
        if self.contiguous_scalars:
            for k in range(self.scalars):
                scalar = self.scalar_address[k]
                for i in range(self.count):
                    differ |= scalar[i] ^ scalar[0]
            for i in range(self.count):
                differ |= self.has_stepped[i] ^ self.has_stepped[0]
            return not differ
        for i in range(self.count):
            if self.cohort_of[i] != SKIPPED and not self.alike(i, self.representative[self.cohort_of[i]]):
                return False
        return True

    cdef void classify(self) noexcept:
        # finds the cohort of each parameter; the cuts are stale if any changed
        cdef Py_ssize_t i, tried
        cdef int32_t cohort = 0, count = 0
        for i in range(self.count):
            if not self.entries[i].grad:
                cohort = SKIPPED
            else:
                if cohort < 0:
                    cohort = 0
                for tried in range(count):       # starts with that of the parameter before: normally the only one
                    if self.alike(i, self.representative[cohort]):
                        break
                    cohort = cohort + 1 if cohort + 1 < count else 0
                else:
                    cohort = count
                    self.representative[cohort] = i
                    count += 1
            if self.cohort_of[i] != cohort:
                self.cohort_of[i] = cohort
                self.stale = True
        if count != self.cohorts:
            self.cohorts = count
            self.stale = True

    cdef int make_cuts(self) except -1:
        # cohort by cohort: a job's spans have the same coefficients
        cdef Py_ssize_t i, k, spans = 0, tiles = 0, matrices = 0, size
        cdef int32_t c
        cdef Lines* lines
        for i in range(self.count):
            for k in range(self.first_entry(i), self.end_entry(i)):
                spans += self.entries[k].size // BLOCK + 1
            if self.lines != NULL and self.entries[i].size:
                lines = &self.lines[i]
                tiles += tiles_of(lines) if is_large(lines) else lines.matrices * lines.rows * lines.columns // TILE + 1
                matrices += lines.matrices if is_large(lines) else 0
        new_cut(&self.cut, spans)
        new_cut(&self.line_cut, tiles)
        new_cut(&self.matrix_cut, matrices)
        for c in range(self.cohorts):
            begin_cohort(&self.cut, c)
            begin_cohort(&self.line_cut, c)
            begin_cohort(&self.matrix_cut, c)
            for i in range(self.count):
                if self.cohort_of[i] != c:
                    continue
                for k in range(self.first_entry(i), self.end_entry(i)):
                    add_spans(&self.cut, k, self.entries[k].size, BLOCK, 1)
                if self.lines != NULL and self.entries[i].size:
                    lines = &self.lines[i]
                    size = lines.rows * lines.columns
                    if is_large(lines):
                        self.make_room(lines)
                        add_spans(&self.line_cut, i, tiles_of(lines), 1,
                                  min(lines.rows, <Py_ssize_t> TILE_ROWS) * min(lines.columns, <Py_ssize_t> TILE))
                        add_spans(&self.matrix_cut, i, lines.matrices, 1,
                                  size // TILE + size // TILE_ROWS + lines.rows + lines.columns)
                    else:
                        add_spans(&self.line_cut, i, lines.matrices, max(1, BLOCK // size), size)
        begin_cohort(&self.cut, self.cohorts)
        begin_cohort(&self.line_cut, self.cohorts)
        begin_cohort(&self.matrix_cut, self.cohorts)
        self.contiguous_scalars = self.cohorts == 1
        for i in range(self.count):
            if self.cohort_of[i] == SKIPPED:
                self.contiguous_scalars = False
            for k in range(self.scalars):
                if self.scalar_address[i * self.scalars + k] != self.scalar_address[k] + i:
                    self.contiguous_scalars = False
        self.stale = False
        return 0

    cdef int make_room(self, Lines* lines) except -1:
        # the sums and factors of large matrices: a few per cent of a matrix's size
        cdef Py_ssize_t across = (lines.columns + TILE - 1) // TILE, down = (lines.rows + TILE_ROWS - 1) // TILE_ROWS
        cdef Py_ssize_t sums = lines.matrices * (across * lines.rows + down * lines.columns)
        if lines.row_sums == NULL:
            lines.row_sums = <double*> PyMem_Malloc(
                (sums + lines.matrices * (lines.rows + lines.columns) + 1) * sizeof(double))
            if not lines.row_sums:
                raise MemoryError
            lines.column_sums = lines.row_sums + lines.matrices * across * lines.rows
            lines.row_factors = lines.row_sums + sums
            lines.column_factors = lines.row_sums + sums + lines.matrices * lines.rows
        return 0

    cpdef bint first(self, Py_ssize_t cohort):
        """Whether a cohort has never stepped before."""
        return not self.has_stepped[self.representative[cohort]]

    cpdef dict values(self, Py_ssize_t cohort, tuple names):
        """The scalar state of a cohort: name and int or float."""
        cdef int64_t* scalar
        cdef Py_ssize_t k
        cdef dict result = {}
        for k in range(self.scalars):
            scalar = self.scalar_address[self.representative[cohort] * self.scalars + k]
            if self.is_float[k]:
                result[names[k]] = (<double*> scalar)[0]
            else:
                result[names[k]] = scalar[0]
        return result

    cdef int stage(self, dict scalars, int64_t* words) except -1:
        # a cohort's new scalar state, as words to be stored
        cdef list values = list(scalars.values())
        cdef double number
        cdef Py_ssize_t k
        for k in range(self.scalars):
            if self.is_float[k]:
                number = values[k]
                memcpy(&words[k], &number, sizeof(double))
            else:
                words[k] = values[k]
        return 0

    cdef void store(self, Py_ssize_t cohort, const int64_t* words) noexcept:
        # in every parameter of a cohort, which has stepped then
        cdef int64_t* block
        cdef Py_ssize_t i, k
        if self.contiguous_scalars:
            for k in range(self.scalars):
                block = self.scalar_address[k]
                for i in range(self.count):
                    block[i] = words[k]
            memset(self.has_stepped, True, self.count)
            return
        for i in range(self.count):
            if self.cohort_of[i] == cohort:
                for k in range(self.scalars):
                    self.scalar_address[i * self.scalars + k][0] = words[k]
                self.has_stepped[i] = True

    # What a SparsePlan has beside that

    cdef Py_ssize_t first_entry(self, Py_ssize_t i) noexcept:
        return i

    cdef Py_ssize_t end_entry(self, Py_ssize_t i) noexcept:
        return i + 1

    cdef bint is_sparse(self, Py_ssize_t i) noexcept:
        return False

    cdef void point_states(self) noexcept:
        pass


# Sparse gradients: a parameter that has one is stepped row by row, as many entries behind those of the parameters.

cdef enum:
    RADIX_BITS = 11                   # bits that one pass of the sort looks at

cdef struct TouchedRow:
    int64_t row
    const char* values


cdef TouchedRow* sort_rows(TouchedRow* rows, TouchedRow* spare, Py_ssize_t n, int64_t largest) noexcept nogil:
    # radix sort, lowest digit first: repeated rows keep their order. Returns whichever of the two buffers is sorted.
    cdef Py_ssize_t start[1 << RADIX_BITS]
    cdef Py_ssize_t i, before, count
    cdef int shift = 0
    cdef int64_t digit
    while largest >> shift:
        memset(start, 0, sizeof(start))
        for i in range(n):
            start[(rows[i].row >> shift) & ((1 << RADIX_BITS) - 1)] += 1
        before = 0
        for i in range(1 << RADIX_BITS):
            count = start[i]
            start[i] = before
            before += count
        for i in range(n):
            digit = (rows[i].row >> shift) & ((1 << RADIX_BITS) - 1)
            spare[start[digit]] = rows[i]
            start[digit] += 1
        rows, spare = spare, rows
        shift += RADIX_BITS
    return rows


cdef void add_values(char* total, const char* more, Py_ssize_t width, bint double_precision) noexcept nogil:
    cdef Py_ssize_t i
    if double_precision:
        for i in range(width):
            (<double*> total)[i] = (<double*> total)[i] + (<const double*> more)[i]
    else:
        for i in range(width):
            (<float*> total)[i] = (<float*> total)[i] + (<const float*> more)[i]


cdef class SparseRows:
    """The rows of `table` that contiguous int64 indices touch, and where the row of `values` for each lies."""
    cdef TouchedRow* rows
    cdef TouchedRow* both             # two buffers, of which `rows` is one
    cdef char* sums
    cdef object keep_alive             # the rows point into this array
    cdef readonly Py_ssize_t count

    def __init__(self, cnp.ndarray indices not None, cnp.ndarray values not None, cnp.ndarray table not None):
        cdef Py_ssize_t n = cnp.PyArray_SIZE(indices), height = cnp.PyArray_DIM(table, 0), i
        cdef Py_ssize_t width = cnp.PyArray_SIZE(table) // height if height else 0
        cdef const int64_t* index = <const int64_t*> cnp.PyArray_DATA(indices)
        cdef int64_t largest = 0
        cdef bint ascending = True
        if cnp.PyArray_SIZE(values) != n * width:        # checked when it was assigned, but arrays can be altered
            raise ValueError(f"a sparse gradient has {cnp.PyArray_SIZE(values)} values instead of {n} rows of {width}")
        self.both = <TouchedRow*> PyMem_Malloc((2 * n + 1) * sizeof(TouchedRow))
        if not self.both:
            raise MemoryError
        self.rows, self.keep_alive = self.both, values
        for i in range(n):
            self.rows[i].row = index[i]
            self.rows[i].values = cnp.PyArray_BYTES(values) + i * width * cnp.PyArray_ITEMSIZE(values)
            if self.rows[i].row < 0 or self.rows[i].row >= height:
                raise ValueError(f"a sparse gradient has index {self.rows[i].row}, but the table has {height} rows")
            if i and self.rows[i].row <= self.rows[i - 1].row:
                ascending = False
            largest = max(largest, self.rows[i].row)
        self.count = n
        if not ascending:
            self.rows = sort_rows(self.both, self.both + n, n, largest)
            self.merge(width, cnp.PyArray_ITEMSIZE(values))

    cdef int merge(self, Py_ssize_t width, Py_ssize_t itemsize) except -1:
        cdef Py_ssize_t i, repeated = 0, last = -1
        cdef char* sum = NULL
        cdef bint summed = False         # whether the last row's values are a sum already
        for i in range(1, self.count):
            repeated += self.rows[i].row == self.rows[i - 1].row
        if repeated:
            self.sums = sum = <char*> PyMem_Malloc(repeated * width * itemsize + 1)
            if not self.sums:
                raise MemoryError
        for i in range(self.count):
            if last < 0 or self.rows[i].row != self.rows[last].row:
                last += 1
                self.rows[last] = self.rows[i]
                summed = False
                continue
            if not summed:
                memcpy(sum, self.rows[last].values, width * itemsize)
                self.rows[last].values = sum
                sum += width * itemsize
                summed = True
            add_values(sum - width * itemsize, self.rows[i].values, width, itemsize == sizeof(double))
        self.count = last + 1
        return 0

    def __dealloc__(self):
        PyMem_Free(self.both)
        PyMem_Free(self.sums)


cdef class SparsePlan(Plan):
    """A Plan whose gradients may be sparse; after `bind`, `touch` finds their rows."""
    cdef list touched                    # parameter: its SparseRows, or the array that is taken in the gradient's place
    cdef uint8_t* sparse_at              # parameter: has a sparse gradient
    cdef Py_ssize_t n_sparse
    cdef Py_ssize_t* begin               # parameter: the entries that are stepped for it
    cdef Py_ssize_t* end

    def __cinit__(self, list parameters not None, *_):
        cdef Py_ssize_t n = len(parameters), i
        self.touched = [None] * n
        self.sparse_at = <uint8_t*> PyMem_Calloc(n + 1, 1)
        self.begin = <Py_ssize_t*> PyMem_Calloc(n + 1, sizeof(Py_ssize_t))
        self.end = <Py_ssize_t*> PyMem_Calloc(n + 1, sizeof(Py_ssize_t))
        if not (self.sparse_at and self.begin and self.end):
            raise MemoryError
        for i in range(n):
            self.begin[i], self.end[i] = i, i + 1

    def __dealloc__(self):
        PyMem_Free(self.sparse_at)
        PyMem_Free(self.begin)
        PyMem_Free(self.end)

    cdef Py_ssize_t first_entry(self, Py_ssize_t i) noexcept:
        return self.begin[i]

    cdef Py_ssize_t end_entry(self, Py_ssize_t i) noexcept:
        return self.end[i]

    cdef bint is_sparse(self, Py_ssize_t i) noexcept:
        return self.sparse_at[i]

    cdef bint rebind(self, Py_ssize_t i, ParameterCore parameter, AddressRanges memory) except -1:
        if self.sparse_at[i]:
            self.sparse_at[i], self.touched[i] = False, None
            self.n_sparse -= 1
            self.begin[i], self.end[i] = i, i + 1
            self.stale = True
        if not Plan.rebind(self, i, parameter, memory):
            self.entries[i].grad = self.entries[i].param         # there is one; `touch` says where
            self.sparse_at[i] = True
            self.n_sparse += 1
            self.bound_version[i] = parameter.version
        return True

    def gradient(self, Py_ssize_t i):
        return self.touched[i] if self.sparse_at[i] else Plan.gradient(self, i)

    cdef int touch(self, AddressRanges memory, sparse) except -1:
        # Anew for every step: values may have changed in place.  `sparse(parameter)` returns the gradient's indices and
        # values, or a dense gradient to take in its place, or raises.
        cdef Py_ssize_t i, k, n = self.count
        cdef SparseRows touched
        cdef Entry* entries
        cdef cnp.ndarray values
        self.stale = True
        for i in range(self.count):
            if not self.sparse_at[i]:
                continue
            found = sparse(self.parameters[i])
            if isinstance(found, cnp.ndarray):
                self.touched[i] = found if self.gathered[i] is None else np.ascontiguousarray(found)
                self.entries[i].grad = cnp.PyArray_DATA(<cnp.ndarray> self.touched[i])
                self.begin[i], self.end[i] = i, i + 1
                continue
            indices, values = found
            if memory.overlaps(values):
                values = values.copy()
            touched = self.touched[i] = SparseRows(indices, values, self.layout(i))
            self.begin[i] = n
            n += touched.count
            self.end[i] = n
        entries = <Entry*> PyMem_Realloc(self.entries, (n + 1) * sizeof(Entry))
        if not entries:
            raise MemoryError
        self.entries, self.n_entries = entries, n
        for i in range(self.count):
            if self.begin[i] != i:
                touched = self.touched[i]
                values = self.layout(i)
                for k in range(touched.count):
                    n = self.begin[i] + k
                    entries[n].param = cnp.PyArray_BYTES(values) + touched.rows[k].row * cnp.PyArray_STRIDE(values, 0)
                    entries[n].grad = <void*> touched.rows[k].values
                    entries[n].size = entries[i].size // cnp.PyArray_DIM(values, 0)
        return 0

    cdef void point_states(self) noexcept:
        # to the rows of the state that belong to those of the parameter
        cdef Py_ssize_t i, k, slot, itemsize = self.kernel.row.itemsize
        if not self.n_sparse:
            return
        for i in range(self.count):
            if self.begin[i] != i:
                for k in range(self.begin[i], self.end[i]):
                    for slot in range(self.states):
                        self.entries[k].state[slot] = <char*> self.entries[i].state[slot] + self.state_itemsize * (
                            (<char*> self.entries[k].param - <char*> self.entries[i].param) // itemsize)


# Launches ------------------------------------------------------------------------------------------------------------

cdef class Launch:
    """One kernel with its coefficients, for a cohort of a plan; `scalars` is the cohort's new scalar state."""
    cdef readonly Plan plan
    cdef readonly Py_ssize_t cohort
    cdef readonly Kernel kernel
    cdef readonly dict coefficients
    cdef readonly dict scalars
    cdef object group                    # launches of one group, or of all, may measure together
    cdef list totals                     # float64 scalars of the group, which they then move

    def __init__(self, Plan plan not None, Py_ssize_t cohort, dict coefficients not None, dict scalars not None):
        self.plan, self.cohort, self.kernel, self.coefficients = plan, cohort, plan.kernel, coefficients
        self.scalars = scalars

    cdef bint at_once(self) noexcept:
        return not self.kernel.row.n_passes and self.plan.modifier is None and self.plan.formats is None

    cdef const Pass* measuring(self, Py_ssize_t phase) noexcept:
        # what this launch does in a phase before the last, or NULL
        cdef const KernelRow* row = self.kernel.row
        if phase < row.n_passes:
            return &row.passes[phase]
        if phase == row.n_passes and self.plan.modifier is not None:
            return &self.plan.modifier.row.passes[0]
        return NULL


cdef enum:
    COMMON = 4                   # coefficients that every rule has, the first in its struct
    TOTALS = 8                   # scalars that a group can have

# What they are where they aren't given: grad_scale, max_abs, l2, keep.
cdef double* NEUTRAL = [1.0, INFINITY, 0.0, 1.0]


cdef int pack(Kernel kernel, dict coefficients, void* hyper, double* scalars) except -1:
    # float64 values, cast once, in the order of the rule's structs
    cdef Py_ssize_t k, given = 0, n = len(kernel.fields)
    cdef double value
    cdef PyObject* found
    for k in range(n):
        found = PyDict_GetItemWithError(coefficients, kernel.fields[k])
        if found != NULL:
            value = <object> found
            given += 1
        elif k < COMMON:
            value = NEUTRAL[k]
        else:
            return wrong_coefficients(kernel, coefficients)
        if kernel.row.itemsize == 4:
            (<float*> hyper)[k] = <float> value
        else:
            (<double*> hyper)[k] = value
    for k in range(len(kernel.scalars)):
        found = PyDict_GetItemWithError(coefficients, kernel.scalars[k])
        if found == NULL:
            return wrong_coefficients(kernel, coefficients)
        scalars[k] = <object> found
        given += 1
    if given != len(coefficients):
        return wrong_coefficients(kernel, coefficients)
    return 0


cdef int wrong_coefficients(Kernel kernel, dict coefficients) except -1:
    check_coefficients(kernel, coefficients)
    raise TypeError(f"the rule '{kernel.name}' can't take {sorted(coefficients)}")       # not reached


def check_coefficients(Kernel kernel not None, coefficients) -> None:
    """Raises TypeError unless these are a rule's coefficients; those that all rules share may be missing."""
    wanted = {*kernel.fields[COMMON:], *kernel.scalars}
    missing, unknown = wanted - {*coefficients}, {*coefficients} - wanted - {*kernel.fields[:COMMON]}
    if missing or unknown:
        raise TypeError(f"the rule '{kernel.name}' has the coefficients {', '.join((*kernel.fields[COMMON:], *kernel.scalars))}"
                        f" beside {', '.join(kernel.fields[:COMMON])}; `coefficients` "
                        + " and ".join([f"lacks {', '.join(sorted(missing))}"] * bool(missing)
                                       + [f"has {', '.join(sorted(unknown))}"] * bool(unknown)))


cdef struct Job:                 # what a thread takes: spans of one launch
    Sweep run
    const Work* work
    Py_ssize_t first
    Py_ssize_t last


cdef void run_spans(void* jobs, Py_ssize_t k) noexcept nogil:
    cdef const Job* job = (<const Job*> jobs) + k
    job.run(job.work, job.first, job.last)


cdef struct Prepared:            # a launch, ready to run
    Work work
    double hyper[HYPER]
    double scalars[SCALARS]
    int64_t words[SLOTS + TOTALS]        # its new scalar state
    double totals[TOTALS]
    bint cancelled
    double* sums                 # span x NUMBERS
    Own* own                     # entry


cdef class PreparedStep:
    """All launches of a step: those of a plan, and of a group, one after the other, after `prepare` of each plan.

    Everything that can fail happens when this is made.  `run` is one native call without Python code: an interrupt
    leaves all or nothing done.
    """
    cdef list launches
    cdef Py_ssize_t count, most_jobs
    cdef Prepared* prepared
    cdef Job* jobs
    cdef int phases              # before the last

    def __cinit__(self, list launches not None, bint zero_grad):
        cdef Launch launch
        cdef Prepared* p
        cdef Py_ssize_t k
        self.launches, self.count = launches, len(launches)
        self.prepared = <Prepared*> PyMem_Malloc(self.count * sizeof(Prepared) + 1)
        if not self.prepared:
            self.count = 0
            raise MemoryError
        for k in range(self.count):
            self.prepared[k].sums = NULL
            self.prepared[k].own = NULL
        for k in range(self.count):
            launch = launches[k]
            p = &self.prepared[k]
            pack(launch.kernel, launch.coefficients, p.hyper, p.scalars)
            if launch.plan.scalars > SLOTS + TOTALS:
                raise ValueError(f"a rule has at most {SLOTS + TOTALS} scalars of state, got {launch.plan.scalars}")
            launch.plan.stage(launch.scalars, p.words)
            p.work.entries, p.work.hyper = launch.plan.entries, p.hyper
            p.work.zero_grad, p.work.tile = zero_grad, NULL
            p.cancelled = False
            self.most_jobs += max(launch.plan.cut.n_jobs, launch.plan.line_cut.n_jobs, launch.plan.matrix_cut.n_jobs)
            if not launch.at_once():
                self.prepare_passes(launch, p)
        self.jobs = <Job*> PyMem_Malloc(self.most_jobs * sizeof(Job) + 1)
        if not self.jobs:
            raise MemoryError

    cdef int prepare_passes(self, Launch launch, Prepared* p) except -1:
        cdef Kernel format
        cdef Own own
        cdef Py_ssize_t i, k
        cdef int phases = launch.kernel.row.n_passes + (launch.plan.modifier is not None)
        self.phases = max(self.phases, phases)
        p.work.rule, p.work.scalars, p.work.lines = launch.kernel.row, p.scalars, launch.plan.lines
        p.work.measuring, p.work.own, p.work.sums = NULL, NULL, NULL
        for k in range(SLOTS):
            p.work.formats[k] = NULL
        if launch.plan.formats is not None:
            for k, format in enumerate(launch.plan.formats):
                if format is not None:
                    p.work.formats[k] = &format.row.format
        if not phases:
            return 0
        p.sums = <double*> PyMem_Malloc(launch.plan.cut.n_spans * NUMBERS * sizeof(double) + 1)
        p.own = <Own*> PyMem_Malloc(launch.plan.n_entries * sizeof(Own) + 1)
        if not (p.sums and p.own):
            raise MemoryError
        p.work.own, p.work.sums = p.own, p.sums
        own.cancelled, own.scale, own.against, own.keep = False, 1.0, 1.0, launch.coefficients.get("keep", 1.0)
        for k in range(launch.kernel.row.own):
            own.field[k] = launch.coefficients[launch.kernel.fields[COMMON + k]]
        for i in range(launch.plan.n_entries):
            p.own[i] = own
        for k in range(len(launch.totals or ())):
            p.totals[k] = launch.totals[k]
        return 0

    def __dealloc__(self):
        cdef Py_ssize_t k
        for k in range(self.count):
            PyMem_Free(self.prepared[k].sums)
            PyMem_Free(self.prepared[k].own)
        PyMem_Free(self.prepared)
        PyMem_Free(self.jobs)

    cdef Py_ssize_t add_jobs(self, Py_ssize_t n, Py_ssize_t k, const Cut* cut, Sweep run) noexcept:
        cdef Launch launch = <Launch> (<list> self.launches)[k]
        cdef Py_ssize_t j
        self.prepared[k].work.spans = cut.spans
        for j in range(cut.first_job[launch.cohort], cut.first_job[launch.cohort + 1]):
            self.jobs[n].run, self.jobs[n].work = run, &self.prepared[k].work
            self.jobs[n].first, self.jobs[n].last = cut.first_span[j], cut.first_span[j + 1]
            n += 1
        return n

    def run(self) -> None:
        cdef Launch launch
        cdef Py_ssize_t k, n = 0
        cdef int phase
        for phase in range(self.phases):
            self.measure(phase)
        for k in range(self.count):
            launch = <Launch> (<list> self.launches)[k]
            self.prepared[k].work.measuring = NULL
            n = self.add_jobs(n, k, &launch.plan.cut,
                              launch.kernel.row.run if launch.at_once() else launch.kernel.row.last_spans)
            if not self.prepared[k].cancelled:
                launch.plan.store(launch.cohort, self.prepared[k].words)
        run_jobs(run_spans, self.jobs, n)
        for k in range(self.count):
            launch = <Launch> (<list> self.launches)[k]
            if k == 0 or launch.plan is not (<Launch> (<list> self.launches)[k - 1]).plan:
                launch.plan.scatter()

    cdef void measure(self, int phase) noexcept:
        # one pass of all launches, and what it makes of the numbers
        cdef Launch launch
        cdef Prepared* p
        cdef const Pass* measuring
        cdef Py_ssize_t k, n = 0
        cdef bint by_lines = False
        for k in range(self.count):
            launch, p = <Launch> (<list> self.launches)[k], &self.prepared[k]
            measuring = p.work.measuring = launch.measuring(phase)
            if measuring != NULL and measuring.scope == LINES:
                n = self.add_jobs(n, k, &launch.plan.line_cut, launch.kernel.row.measure_lines)
                by_lines = True
            elif measuring != NULL:
                n = self.add_jobs(n, k, &launch.plan.cut, launch.kernel.row.measure_spans)
        run_jobs(run_spans, self.jobs, n)
        n = 0
        for k in range(self.count):
            launch, p = <Launch> (<list> self.launches)[k], &self.prepared[k]
            if p.work.measuring != NULL and p.work.measuring.scope == LINES:
                n = self.add_jobs(n, k, &launch.plan.matrix_cut, launch.kernel.row.finish_lines)
        if by_lines:
            run_jobs(run_spans, self.jobs, n)
        k = 0
        while k < self.count:
            if self.prepared[k].work.measuring == NULL or self.prepared[k].work.measuring.scope == LINES:
                k += 1
            elif self.prepared[k].work.measuring.scope == TENSOR:
                self.combine_tensors(k)
                k += 1
            else:
                k = self.combine_groups(phase, k)

    cdef void combine_tensors(self, Py_ssize_t k) noexcept:
        # what a pass has measured of each parameter becomes its own numbers
        cdef Launch launch = <Launch> (<list> self.launches)[k]
        cdef Plan plan = launch.plan
        cdef Prepared* p = &self.prepared[k]
        cdef double numbers[NUMBERS]
        cdef Sums sums
        cdef Own* own
        cdef Py_ssize_t i, j, first, end, s = plan.cut.first_span[plan.cut.first_job[launch.cohort]]
        sums.of = numbers
        for i in range(plan.count):
            if plan.cohort_of[i] != launch.cohort:
                continue
            first, end = plan.first_entry(i), plan.end_entry(i)
            s = self.add_up(k, s, first, end, numbers, &sums.count)
            if sums.count == 0.0:
                continue
            own = &p.own[first]
            if not p.work.measuring.between(p.scalars, &sums, NULL, own):
                own.cancelled = True
            for j in range(first + 1, end):
                p.own[j] = own[0]

    cdef Py_ssize_t add_up(self, Py_ssize_t k, Py_ssize_t s, Py_ssize_t first, Py_ssize_t end, double* numbers,
                           double* count) noexcept:
        # the spans of entries first, ..., end - 1, in order; returns the span behind them
        cdef Prepared* p = &self.prepared[k]
        cdef Plan plan = (<Launch> (<list> self.launches)[k]).plan
        cdef const Pass* measuring = p.work.measuring
        cdef Py_ssize_t last = plan.cut.n_spans
        cdef int q
        memset(numbers, 0, NUMBERS * sizeof(double))
        count[0] = 0.0
        while s < last and first <= plan.cut.spans[s].entry < end:
            add_numbers(measuring, numbers, &p.sums[s * NUMBERS])
            count[0] += plan.cut.spans[s].end - plan.cut.spans[s].begin
            s += 1
        return s

    cdef Py_ssize_t combine_groups(self, int phase, Py_ssize_t first) noexcept:
        # the same for all launches of a group, or of all groups; returns the launch behind them
        cdef Launch launch, head = <Launch> (<list> self.launches)[first]
        cdef Plan plan
        cdef Scope scope = self.prepared[first].work.measuring.scope
        cdef double numbers[NUMBERS]
        cdef double part[NUMBERS]
        cdef double count
        cdef Sums sums
        cdef Own own
        cdef Py_ssize_t k = first, i, end, s, group
        sums.of, sums.count = numbers, 0.0
        memset(numbers, 0, sizeof(numbers))
        while k < self.count:
            launch = <Launch> (<list> self.launches)[k]
            if launch.measuring(phase) == NULL or launch.measuring(phase).scope != scope or (
                    scope == GROUP and launch.group is not head.group):
                break
            plan, s = launch.plan, launch.plan.cut.first_span[launch.plan.cut.first_job[launch.cohort]]
            for i in range(plan.count):
                if plan.cohort_of[i] == launch.cohort:
                    s = self.add_up(k, s, plan.first_entry(i), plan.end_entry(i), part, &count)
                    add_numbers(self.prepared[first].work.measuring, numbers, part)
                    sums.count += count
            k += 1
        end, group = k, first
        for k in range(first, end):
            launch = <Launch> (<list> self.launches)[k]
            if k == first or launch.group is not (<Launch> (<list> self.launches)[k - 1]).group:
                group, own = k, self.prepared[k].own[0]
                own.cancelled = sums.count == 0.0 or not self.prepared[k].work.measuring.between(
                    self.prepared[k].scalars, &sums, self.prepared[k].totals if launch.totals else NULL, &own)
                if launch.totals and not own.cancelled:
                    for i in range(len(launch.totals)):
                        (<double*> cnp.PyArray_DATA(<cnp.ndarray> launch.totals[i]))[0] = self.prepared[k].totals[i]
            self.prepared[k].cancelled = own.cancelled
            for i in range(launch.plan.n_entries):
                self.prepared[k].own[i] = own
        return end


cdef inline void add_numbers(const Pass* measuring, double* numbers, const double* more) noexcept:
    cdef int q
    for q in range(measuring.numbers):
        if measuring.how[q] != LARGEST:
            numbers[q] = numbers[q] + more[q]
        elif more[q] > numbers[q] or more[q] != more[q]:
            numbers[q] = more[q]


def execute(list launches not None) -> None:
    """Runs launches that were made for the moment."""
    PreparedStep(launches, False).run()


# Group plans ---------------------------------------------------------------------------------------------------------

cdef class GroupPlanCore:
    """The plans of one parameter group, and what in it was checked last: what a step does where nothing changed.

    The subclass adds `create_state(method, plan, created)`, `outgrown(method, plan)`, which makes a SparsePlan of a
    Plan, `sparse(method)`, which it asks about sparse gradients, and whatever makes the plans anew after a change.
    """
    cdef readonly dict group
    cdef readonly tuple scalars          # names of the scalar state
    cdef tuple watched                   # names in the group
    cdef list seen                       # their values that were checked last; None: nothing was
    cdef Py_ssize_t size                 # entries of the group then: one more may be a slip of a hyper-parameter's name
    cdef public object version           # of the state mapping that the plans were made from
    cdef public list plans
    cdef public list totals              # float64 scalars of the group, which kernels move

    def __init__(self, dict group not None, tuple scalars not None, tuple watched not None):
        self.group, self.scalars, self.watched = group, scalars, watched
        self.version, self.plans, self.totals = None, [], []

    def unchanged(self, version) -> bool:
        """Whether the group has the values that were checked last, and the state mapping this version."""
        cdef Py_ssize_t k
        cdef PyObject* found
        if self.seen is None or self.version != version or len(self.group) != self.size:
            return False
        for k in range(len(self.watched)):
            found = PyDict_GetItemWithError(self.group, self.watched[k])
            if found == NULL:
                return False
            value = <object> found
            if value is self.seen[k]:
                continue
            # by identity, for True == 1; but a schedule may well give the same number again
            if not (type(value) is float and type(self.seen[k]) is float and <double> value == <double> self.seen[k]):
                return False
        return True

    def remember(self, version) -> None:
        """Takes the group as it is for checked."""
        self.seen, self.size, self.version = [self.group[name] for name in self.watched], len(self.group), version

    def bind(self, method, AddressRanges memory not None) -> None:
        """Enters the gradients as they are now into the plans."""
        cdef Py_ssize_t k
        cdef Plan plan
        for k in range(len(self.plans)):
            plan = self.plans[k]
            if not plan.bind(memory):
                plan = self.plans[k] = self.outgrown(method, plan)
                plan.bind(memory)
            if isinstance(plan, SparsePlan) and (<SparsePlan> plan).n_sparse:
                (<SparsePlan> plan).touch(memory, self.sparse(method))

    def create_states(self, method, list created not None) -> bool:
        """Creates the state of parameters that have their first gradient now; notes each entry in `created` first."""
        cdef Plan plan
        cdef bint any_created = False
        for plan in self.plans:
            if plan.prepare() < 0:
                any_created = True
                self.create_state(method, plan, created)
                plan.prepare()
        return any_created

    def launches(self, method, list launches not None, double factor, double max_abs) -> None:
        """Adds what is to run for this group: gradients times `factor`, then clipped to +-`max_abs`."""
        cdef Plan plan
        cdef Launch launch
        cdef Py_ssize_t cohort
        cdef dict state, finished
        if self.group.get("maximize"):
            factor = -factor
        coefficients = method.coefficients
        for plan in self.plans:
            for cohort in range(plan.cohorts):
                state = plan.values(cohort, self.scalars)
                finished = coefficients(self.group, state, plan.first(cohort))
                if factor != 1.0:
                    finished["grad_scale"] = factor
                if max_abs != INFINITY:
                    finished["max_abs"] = max_abs
                launch = Launch.__new__(Launch)
                launch.plan, launch.cohort, launch.coefficients, launch.scalars = plan, cohort, finished, state
                launch.kernel, launch.group, launch.totals = plan.kernel, self, self.totals
                if plan.first_kernel is not None and plan.first(cohort):
                    launch.kernel = plan.first_kernel
                launches.append(launch)


# Gradients of a step -------------------------------------------------------------------------------------------------

cdef struct Block:               # of a gradient
    VectorKernel kernel
    void* gradient
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
    for i in range(blocks.first[job], blocks.first[job + 1]):
        blocks.block[i].result = 0.0
        blocks.block[i].kernel(&blocks.block[i].gradient, 1, NULL, blocks.block[i].n, &blocks.block[i].result)


def sum_over_gradients(list terms not None) -> float:
    """The sum of a vector kernel's result over the gradients that are bound in plans: [(kernel, plan), ...]."""
    cdef Py_ssize_t most = 0, n = 0, i, k, at, weight = BLOCK
    cdef Kernel kernel
    cdef Plan plan
    cdef Blocks blocks
    cdef Block* block
    cdef const Entry* entry
    cdef double result = 0.0
    for _, plan in terms:
        for i in range(plan.count):
            for k in range(plan.first_entry(i), plan.end_entry(i)):
                most += plan.entries[k].size // BLOCK + 1
    blocks.block = <Block*> PyMem_Malloc(most * sizeof(Block) + (most + 1) * sizeof(Py_ssize_t))
    if not blocks.block:
        raise MemoryError
    blocks.first, blocks.jobs = <Py_ssize_t*> (blocks.block + most), 0
    for kernel, plan in terms:
        for i in range(plan.count):
            if not plan.entries[i].grad:
                continue
            for k in range(plan.first_entry(i), plan.end_entry(i)):
                entry, at = &plan.entries[k], 0
                while at < entry.size:
                    if weight >= BLOCK:
                        blocks.first[blocks.jobs] = n
                        blocks.jobs += 1
                        weight = 0
                    block = &blocks.block[n]
                    block.kernel, block.n = kernel.row.vector, min(<Py_ssize_t> BLOCK, entry.size - at)
                    block.gradient = <char*> entry.grad + at * kernel.row.itemsize
                    weight += block.n + TENSOR_COST
                    at += BLOCK
                    n += 1
    blocks.first[blocks.jobs] = n
    run_jobs(run_blocks, &blocks, blocks.jobs)
    for k in range(n):
        result = result + blocks.block[k].result
    PyMem_Free(blocks.block)
    return result


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


cdef class DisjointGradients:
    """Whether the gradients bound in plans share no memory among each other; found anew only where one was replaced."""
    cdef uint64_t assignments
    cdef list plans
    cdef bint result

    def check(self, list plans not None):
        if self.assignments != assignments or self.plans != plans:
            self.result = disjoint(plans)
            self.assignments, self.plans = assignments, plans
        return self.result


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
                ranges[n].end = ranges[n].begin + <uintptr_t> cnp.PyArray_NBYTES((<ParameterCore> plan.parameters[i]).array)
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
        ranges[i].begin = <uintptr_t> cnp.PyArray_DATA(gradient)
        ranges[i].end = ranges[i].begin + <uintptr_t> cnp.PyArray_NBYTES(gradient)
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
            found.append(np.array(parameter.gradient, order="C" if cnp.PyArray_IS_C_CONTIGUOUS(parameter.array) else "F"))
    return found
