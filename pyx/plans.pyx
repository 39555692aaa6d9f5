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

from .parameters cimport (AddressRanges, ParameterCore, assignments, fits, real_itemsize, same_layout,
                          size_in_reals)
from .runtime cimport Kernel
from .strided cimport copy_between
from .table cimport BLOCK, TILE, TILE_ROWS, Beside, Entry, Lines, Scales, Span

cnp.import_array()


cdef enum:
    SKIPPED = -1                 # the cohort of parameters without a gradient

include "cut.pxi"


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
            self.real_type = (cnp.NPY_FLOAT if cnp.PyArray_ITEMSIZE(parameter.array) == 2
                              else cnp.PyArray_TYPE(parameter.array))
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
        PyMem_Free(self.offsets)
        PyMem_Free(self.beside)
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
        self.entries[i].size = size_in_reals(array)
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

    def round_by(self, uint64_t seed, bint nearest):
        """How what is stored in fewer bits is rounded; the scalars have a `step` then."""
        cdef Py_ssize_t i
        self.rounds, self.seed, self.nearest = True, seed, nearest
        if any([parameter.offset for parameter in self.parameters]):
            self.offsets = <Py_ssize_t*> PyMem_Calloc(self.count + 1, sizeof(Py_ssize_t))
            if not self.offsets:
                raise MemoryError
            for i in range(self.count):
                self.offsets[i] = self.parameters[i].offset

    def store_as(self, list formats not None):
        """How the state arrays are stored: a format each, or None; before any is attached."""
        self.stored = formats
        self.scales = <Scales*> PyMem_Calloc(self.count + 1, sizeof(Scales))
        if not self.scales:
            raise MemoryError

    cdef int make_beside(self) except -1:
        if self.beside == NULL:
            self.beside = <Beside*> PyMem_Calloc(self.count + 1, sizeof(Beside))
            if self.beside == NULL:
                raise MemoryError
            self.shadows = [None] * self.count
        return 0

    def keep_beside(self, Py_ssize_t i, str what not None, cnp.ndarray array, Kernel format not None):
        """Enters what parameter i has in another type; the caller has checked shape and layout.

        `what`: its "shadow", the "master" that it is a copy of, or the "rest" to a float32, if it is kept, of 16 bits;
        or what is "lacking" to its gradient, likewise.
        """
        cdef Beside* beside
        cdef cnp.ndarray copy
        self.make_beside()
        beside = &self.beside[i]
        self.shadows[i] = array, [array]                 # twice, as in `attach`
        if what == "lacking":
            beside.gradient, beside.lacking = &format.row.format, NULL if array is None else cnp.PyArray_DATA(array)
            return
        if what == "rest":
            beside.parameter, beside.rest = &format.row.format, NULL if array is None else cnp.PyArray_DATA(array)
            return
        beside.copy, beside.copy_format = cnp.PyArray_DATA(array), &format.row.format
        if what == "master":
            copy = self.layout(i)
            beside.copy, beside.heeded = cnp.PyArray_DATA(copy), True
            self.entries[i].param = cnp.PyArray_DATA(array)

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
            self.state_itemsize[k] = real_itemsize(array)
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
        cdef uint64_t now = assignments  # another one may be assigned while Python code runs here
        if self.bound_assignments != now:
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
            self.bound_assignments = now
        if self.n_copies:
            for i in range(self.count):
                if self.copies[i] is not None:
                    taken = (<ParameterCore> self.parameters[i]).taken()
                    if not isinstance(taken, cnp.ndarray):       # taken away meanwhile, by another thread
                        self.entries[i].grad = NULL
                        continue
                    gradient = taken
                    if fits(gradient, self.copies[i]):
                        copy_between(gradient, self.copies[i], True)
                    else:                        # somebody has given it another shape or type since it was assigned
                        np.copyto(self.copies[i], gradient)
        return True

    cdef bint rebind(self, Py_ssize_t i, ParameterCore parameter, AddressRanges memory) except -1:
        cdef cnp.ndarray gradient, copy
        cdef uint64_t version = parameter.version        # first: another gradient than this may be assigned meanwhile
        if self.copies[i] is not None:
            self.copies[i] = None
            self.n_copies -= 1
        if self.beside != NULL and self.beside[i].lacking == NULL:
            self.beside[i].gradient = NULL
        taken = parameter.taken()
        if taken is None:
            self.entries[i].grad = NULL
        elif not isinstance(taken, cnp.ndarray):
            return False
        else:
            gradient = taken
            if cnp.PyArray_TYPE(gradient) != self.real_type and (self.beside == NULL
                                                                 or self.beside[i].lacking == NULL):
                self.read_as(i, parameter, gradient)
            if self.usable(i, parameter.array, gradient) and not memory.overlaps(gradient):
                self.entries[i].grad = cnp.PyArray_DATA(gradient)
            else:                                # strided, misaligned, or overlapping a parameter or state
                copy = np.empty_like(self.layout(i), gradient.dtype, subok=False)
                self.copies[i] = copy
                self.n_copies += 1
                self.entries[i].grad = cnp.PyArray_DATA(copy)
        self.bound_version[i] = version
        return True

    cdef int read_as(self, Py_ssize_t i, ParameterCore parameter, cnp.ndarray gradient) except -1:
        # of another float type than the parameter's
        cdef Kernel format
        if self.reads is None:
            raise TypeError(f"a gradient is {gradient.dtype} but its parameter, of shape {np.shape(gradient)}, is "
                            f"{parameter.array.dtype}, and this optimizer doesn't cast; use cast_grads=True")
        format = self.reads(gradient.dtype)
        self.make_beside()
        self.beside[i].gradient = &format.row.format
        return 0

    cdef Py_ssize_t gradient_itemsize(self, Py_ssize_t i) noexcept:
        if self.beside != NULL and self.beside[i].gradient != NULL:
            return self.beside[i].gradient.bytes
        return self.kernel.row.itemsize

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


include "sparse_plan.pxi"
include "row_plan.pxi"
