# Plans: the pointer tables of groups, checked once, cut into spans for the threads.
#
# A plan is the pointer table of the parameters of one group that share a float type and a rule: checked once, cut into
# spans for the threads.  Parameters with equal scalar state form a cohort and step together; normally there is one.
# Scalars that a rule moves for each tensor don't count there.

import numpy as np

cimport numpy as cnp
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from .parameters cimport AddressRanges, ParameterCore, assignments, fits, same_layout
from .runtime cimport Kernel
from .strided cimport copy_between
from .table cimport BLOCK, TILE, TILE_ROWS, Entry, Lines, Scales, Span

cnp.import_array()


cdef enum:
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


cdef inline bint all_alike(const void* items, Py_ssize_t n, size_t size) noexcept:
    # each equals the one behind it, and libc compares whole vectors
    return n < 2 or memcmp(items, <const char*> items + size, (n - 1) * size) == 0


cdef class Plan:
    """Plan(parameters, kernel, scalars): `scalars` 0-d arrays (int64 or float64) of state for each parameter."""

    def __cinit__(self, list parameters not None, Kernel kernel not None, Py_ssize_t scalars):
        cdef Py_ssize_t n = len(parameters), i
        cdef ParameterCore parameter
        self.parameters, self.kernel, self.scalars = parameters, kernel, scalars
        self.shared = scalars - kernel.row.own_scalars
        if self.shared < 0:
            raise ValueError(f"the rule '{kernel.name}' moves {kernel.own_scalars} scalars of state, got {scalars}")
        self.count = self.n_entries = n
        self.states = kernel.row.slots + kernel.row.line_states
        self.keep_alive, self.copies = [None] * n, [None] * n
        self.gathered, self.scattered = [None] * n, [None] * n
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
        PyMem_Free(self.scales)
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
        if not c and (not cnp.PyArray_IS_F_CONTIGUOUS(array) or (self.lines != NULL and d > 2)
                      or self.kernel.row.by_rows):
            self.scattered[i] = array.view(np.ndarray)
            self.gathered[i] = array = np.empty(np.shape(array), array.dtype)
            self.n_gathered += 1
            c = True
        self.entries[i].param = cnp.PyArray_DATA(array)
        self.entries[i].size = cnp.PyArray_SIZE(array)
        if self.lines != NULL:
            lines = &self.lines[i]
            lines.flipped = not c
            lines.rows = cnp.PyArray_DIM(array, d - 2 if c else 1)
            lines.columns = cnp.PyArray_DIM(array, d - 1 if c else 0)
            lines.matrices = self.entries[i].size // (lines.rows * lines.columns) if self.entries[i].size else 0
        return 0

    def layout(self, Py_ssize_t i):
        """An array with the strides in which parameter i is stepped, and its gradient and state are laid out."""
        return self.gathered[i] if self.gathered[i] is not None else (<ParameterCore> self.parameters[i]).array

    def store_as(self, list formats not None, uint64_t seed, bint nearest):
        """How the state arrays are stored: a format each, or None; before any is attached."""
        self.stored, self.seed, self.nearest = formats, seed, nearest
        self.scales = <Scales*> PyMem_Calloc(self.count + 1, sizeof(Scales))
        if not self.scales:
            raise MemoryError

    def attach(self, Py_ssize_t i, list arrays not None, list scalars not None, bint has_stepped, tuple scales=()):
        """Enters parameter i's state into the table; the caller has checked dtype, shape and layout.

        `scales`: an array, or None, for each of the arrays, where the plan has formats.
        """
        cdef cnp.ndarray array
        cdef Py_ssize_t k
        if len(arrays) != self.states or len(scalars) != self.scalars:
            raise ValueError(f"the rule '{self.kernel.name}' has {self.states} state arrays and {self.scalars} scalars"
                             f", got {len(arrays)} and {len(scalars)}")
        for k, array in enumerate(arrays):
            self.entries[i].state[k] = cnp.PyArray_DATA(array)
            self.state_itemsize[k] = cnp.PyArray_ITEMSIZE(array)
        for k, array in enumerate(scalars):
            self.scalar_address[i * self.scalars + k] = <int64_t*> cnp.PyArray_DATA(array)
            self.is_float[k] = cnp.PyArray_ISFLOAT(array)
        for k in range(len(scales)):
            if scales[k] is not None:
                self.scales[i].of[k] = cnp.PyArray_DATA(<cnp.ndarray> scales[k])
        # twice: NumPy resizes no array with two references
        self.keep_alive[i] = (arrays, scalars, scales, [*arrays, *scales])
        self.has_state[i] = True
        self.has_stepped[i] = has_stepped

    def pending(self):
        """The parameters that have a gradient and no state yet, by their place in the plan."""
        return [i for i in range(self.count) if self.entries[i].grad and not self.has_state[i]]

    # Gradients

    cpdef bint bind(self, AddressRanges memory) except -1:
        """Enters the gradients as they are now; False if one is sparse, for which this plan has no room.

        Leaves off at a parameter with a new gradient that somebody has locked since it was taken: `locked`.
        Inside `with stepping`, which keeps the gradients' memory in place.
        """
        cdef Py_ssize_t i
        cdef ParameterCore parameter
        cdef cnp.ndarray gradient
        if self.bound_assignments != assignments:
            self.some_without_state = self.gradients_changed = True
            self.locked = None
            for i in range(self.count):
                parameter = <ParameterCore> (<list> self.parameters)[i]
                if parameter.version == self.bound_version[i]:
                    continue
                if not cnp.PyArray_ISWRITEABLE(parameter.array):
                    self.locked = parameter
                    return True
                if not self.rebind(i, parameter, memory):
                    return False
            self.bound_assignments = assignments
        if self.n_copies:
            for i in range(self.count):
                if self.copies[i] is not None:
                    gradient = (<ParameterCore> self.parameters[i]).gradient
                    if fits(gradient, self.copies[i]):
                        copy_between(gradient, self.copies[i], True)
                    else:                        # somebody has given it another shape or type since it was assigned
                        np.copyto(self.copies[i], gradient)
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

    cdef bint usable(self, Py_ssize_t i, cnp.ndarray array, cnp.ndarray gradient) noexcept:
        return same_layout(array if self.gathered[i] is None else <cnp.ndarray> self.gathered[i], gradient)

    def gradient(self, Py_ssize_t i):
        """Parameter i's gradient as kernels read it since `bind`: laid out as `layout`, overlapping none; or None."""
        return self.copies[i] if self.copies[i] is not None else (<ParameterCore> self.parameters[i]).gradient

    # Parameters that are stepped in a copy: within the native call, where nothing can fail

    cdef bint steps_copy(self, Py_ssize_t i) noexcept:
        # not where a sparse gradient touches some rows alone
        return self.gathered[i] is not None and self.entries[i].grad != NULL and self.first_entry(i) == i

    cdef void gather(self) noexcept:
        cdef Py_ssize_t i
        if self.n_gathered:
            for i in range(self.count):
                if self.steps_copy(i):
                    copy_between(<cnp.ndarray> self.scattered[i], <cnp.ndarray> self.gathered[i], True)

    cdef void scatter(self) noexcept:
        cdef Py_ssize_t i
        if self.n_gathered:
            for i in range(self.count):
                if self.steps_copy(i):
                    copy_between(<cnp.ndarray> self.scattered[i], <cnp.ndarray> self.gathered[i], False)

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
        for k in range(self.shared):
            if self.scalar_address[i * self.scalars + k][0] != self.scalar_address[j * self.scalars + k][0]:
                return False
        return True

    cdef bint still_alike(self) noexcept:
        # whether the parameters of each cohort have equal scalars, as always unless somebody set one
        cdef Py_ssize_t i, k
        if self.contiguous_scalars:
            for k in range(self.shared):
                if not all_alike(self.scalar_address[k], self.count, sizeof(int64_t)):
                    return False
            return all_alike(self.has_stepped, self.count, sizeof(self.has_stepped[0]))
        for i in range(self.count):
            if self.cohort_of[i] != SKIPPED and not self.alike(i, self.representative[self.cohort_of[i]]):
                return False
        return True

    cdef void classify(self) noexcept:
        # finds the cohort of each parameter; the cuts are stale if any changed
        cdef Py_ssize_t i
        cdef int32_t cohort = 0, count = 0
        for i in range(self.count):
            if not self.entries[i].grad:
                cohort = SKIPPED
            else:
                if cohort < 0:
                    cohort = 0
                for _ in range(count):       # starts with that of the parameter before: normally the only one
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
            for k in range(self.shared):
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
        """The scalar state that a cohort has in common: name and int or float."""
        cdef int64_t* scalar
        cdef Py_ssize_t k
        cdef dict result = {}
        for k in range(self.shared):
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
        for k in range(self.shared):
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
            for k in range(self.shared):
                block = self.scalar_address[k]
                for i in range(self.count):
                    block[i] = words[k]
            memset(self.has_stepped, True, self.count)
            return
        for i in range(self.count):
            if self.cohort_of[i] == cohort:
                for k in range(self.shared):
                    self.scalar_address[i * self.scalars + k][0] = words[k]
                self.has_stepped[i] = True

    cdef double* own_scalars(self, Py_ssize_t i, double* values) noexcept:
        # a copy of parameter i's own, or NULL where the rule moves none
        cdef Py_ssize_t k
        for k in range(self.shared, self.scalars):
            values[k - self.shared] = (<double*> self.scalar_address[i * self.scalars + k])[0]
        return values if self.shared < self.scalars else NULL

    cdef void store_own(self, Py_ssize_t i, const double* values) noexcept:
        cdef Py_ssize_t k
        for k in range(self.shared, self.scalars):
            (<double*> self.scalar_address[i * self.scalars + k])[0] = values[k - self.shared]

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
        cdef cnp.ndarray array, values
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
                array = (<ParameterCore> self.parameters[i]).array       # whose rows may lie apart, but are whole
                for k in range(touched.count):
                    n = self.begin[i] + k
                    entries[n].param = cnp.PyArray_BYTES(array) + touched.rows[k].row * cnp.PyArray_STRIDE(array, 0)
                    entries[n].grad = <void*> touched.rows[k].values
                    entries[n].size = entries[i].size // cnp.PyArray_DIM(array, 0)
        return 0

    cdef void point_states(self) noexcept:
        # to the rows of the state that belong to those of the parameter
        cdef Py_ssize_t i, k, slot, at
        if not self.n_sparse:
            return
        for i in range(self.count):
            if self.begin[i] != i:
                for k in range(self.begin[i], self.end[i]):
                    at = (<SparseRows> self.touched[i]).rows[k - self.begin[i]].row * self.entries[k].size
                    for slot in range(self.states):
                        self.entries[k].state[slot] = (
                            <char*> self.entries[i].state[slot] + self.state_itemsize[slot] * at)


cdef class RowPlan(Plan):
    """A Plan that steps its parameters row by row, each an entry, so that rows have own numbers; first call `split`."""
    cdef Py_ssize_t* begin                # parameter: the first of its rows among the entries

    def __dealloc__(self):
        PyMem_Free(self.begin)

    def split(self, list rows not None):
        """Cuts each parameter into so many equal parts that lie side by side."""
        cdef Py_ssize_t n = self.count, i, k
        cdef Entry* entries
        self.begin = <Py_ssize_t*> PyMem_Malloc((self.count + 1) * sizeof(Py_ssize_t))
        entries = <Entry*> PyMem_Realloc(self.entries, (n + sum(rows) + 1) * sizeof(Entry))
        if entries:
            self.entries = entries
        if not (self.begin and entries):
            raise MemoryError
        memset(entries + n, 0, (sum(rows) + 1) * sizeof(Entry))
        for i in range(self.count):
            self.begin[i] = n
            n += rows[i] if self.entries[i].size else 0
            for k in range(self.begin[i], n):
                entries[k].size = entries[i].size // (n - self.begin[i])
                entries[k].param = self.part(entries[i].param, i, k)
        self.begin[self.count] = self.n_entries = n

    cdef void* part(self, void* array, Py_ssize_t i, Py_ssize_t k) noexcept:
        # where entry k begins in an array of parameter i's shape
        if array == NULL:
            return NULL
        return <char*> array + (k - self.begin[i]) * self.entries[k].size * self.kernel.row.itemsize

    def attach(self, Py_ssize_t i, list arrays not None, list scalars not None, bint has_stepped, tuple scales=()):
        cdef Py_ssize_t k
        cdef int slot
        Plan.attach(self, i, arrays, scalars, has_stepped, scales)
        for k in range(self.begin[i], self.begin[i + 1]):
            for slot in range(self.kernel.row.slots):
                self.entries[k].state[slot] = self.part(self.entries[i].state[slot], i, k)
            for slot in range(self.kernel.row.slots, self.states):           # a number for each row
                self.entries[k].state[slot] = (<char*> self.entries[i].state[slot]
                                               + (k - self.begin[i]) * self.kernel.row.itemsize)

    cdef bint rebind(self, Py_ssize_t i, ParameterCore parameter, AddressRanges memory) except -1:
        cdef Py_ssize_t k
        if not Plan.rebind(self, i, parameter, memory):
            return False
        for k in range(self.begin[i], self.begin[i + 1]):
            self.entries[k].grad = self.part(self.entries[i].grad, i, k)
        return True

    cdef bint steps_copy(self, Py_ssize_t i) noexcept:
        return self.gathered[i] is not None and self.entries[i].grad != NULL

    cdef Py_ssize_t first_entry(self, Py_ssize_t i) noexcept:
        return self.begin[i]

    cdef Py_ssize_t end_entry(self, Py_ssize_t i) noexcept:
        return self.begin[i + 1]
