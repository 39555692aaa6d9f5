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
        cdef Py_ssize_t width = size_in_reals(table) // height if height else 0
        cdef const int64_t* index = <const int64_t*> cnp.PyArray_DATA(indices)
        cdef int64_t largest = 0
        cdef bint ascending = True
        if size_in_reals(values) != n * width:           # checked when it was assigned, but arrays can be altered
            raise ValueError(f"a sparse gradient has {size_in_reals(values)} values instead of {n} rows of {width}")
        self.both = <TouchedRow*> PyMem_Malloc((2 * n + 1) * sizeof(TouchedRow))
        if not self.both:
            raise MemoryError
        self.rows, self.keep_alive = self.both, values
        for i in range(n):
            self.rows[i].row = index[i]
            self.rows[i].values = cnp.PyArray_BYTES(values) + i * width * real_itemsize(values)
            if self.rows[i].row < 0 or self.rows[i].row >= height:
                raise ValueError(f"a sparse gradient has index {self.rows[i].row}, but the table has {height} rows")
            if i and self.rows[i].row <= self.rows[i - 1].row:
                ascending = False
            largest = max(largest, self.rows[i].row)
        self.count = n
        if not ascending:
            self.rows = sort_rows(self.both, self.both + n, n, largest)
            self.merge(width, real_itemsize(values))

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
        cdef uint64_t version = parameter.version
        if self.sparse_at[i]:
            self.sparse_at[i], self.touched[i] = False, None
            self.n_sparse -= 1
            self.begin[i], self.end[i] = i, i + 1
            self.stale = True
        if not Plan.rebind(self, i, parameter, memory):
            self.entries[i].grad = self.entries[i].param         # there is one; `touch` says where
            self.sparse_at[i] = True
            self.n_sparse += 1
            self.bound_version[i] = version
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
