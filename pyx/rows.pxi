# The rows of a table that a sparse gradient touches: ascending, each once, the values of repeated rows added up.

cdef enum:
    DIGIT = 11                   # bits that one pass of the sort looks at

cdef struct Entry:
    int64_t row
    const char* values


cdef Entry* sort_entries(Entry* entries, Entry* spare, Py_ssize_t n, int64_t largest) noexcept nogil:
    # radix sort, lowest digit first: repeated rows keep their order. Returns whichever of the two buffers is sorted.
    cdef Py_ssize_t start[1 << DIGIT]
    cdef Py_ssize_t i, before, count
    cdef int shift = 0
    cdef int64_t digit
    while largest >> shift:
        memset(start, 0, sizeof(start))
        for i in range(n):
            start[(entries[i].row >> shift) & ((1 << DIGIT) - 1)] += 1
        before = 0
        for i in range(1 << DIGIT):
            count = start[i]
            start[i] = before
            before += count
        for i in range(n):
            digit = (entries[i].row >> shift) & ((1 << DIGIT) - 1)
            spare[start[digit]] = entries[i]
            start[digit] += 1
        entries, spare = spare, entries
        shift += DIGIT
    return entries


cdef void add_values(char* total, const char* more, Py_ssize_t width, bint double_precision) noexcept nogil:
    cdef Py_ssize_t i
    if double_precision:
        for i in range(width):
            (<double*> total)[i] = (<double*> total)[i] + (<const double*> more)[i]
    else:
        for i in range(width):
            (<float*> total)[i] = (<float*> total)[i] + (<const float*> more)[i]


cdef class Touched:
    """The rows of `table` that contiguous int64 indices touch, and where the row of `values` for each lies."""
    cdef Entry* entries
    cdef Entry* both             # two buffers, of which `entries` is one
    cdef char* sums
    cdef object kept             # the entries point into this array
    cdef readonly Py_ssize_t count

    def __init__(self, cnp.ndarray indices not None, cnp.ndarray values not None, cnp.ndarray table not None):
        cdef Py_ssize_t n = cnp.PyArray_SIZE(indices), rows = cnp.PyArray_DIM(table, 0), i
        cdef Py_ssize_t width = cnp.PyArray_SIZE(table) // rows if rows else 0
        cdef const int64_t* index = <const int64_t*> cnp.PyArray_DATA(indices)
        cdef int64_t largest = 0
        cdef bint ascending = True
        if cnp.PyArray_SIZE(values) != n * width:        # checked when it was assigned, but arrays can be altered
            raise ValueError(f"a sparse gradient has {cnp.PyArray_SIZE(values)} values instead of {n} rows of {width}")
        self.both = <Entry*> PyMem_Malloc((2 * n + 1) * sizeof(Entry))
        if not self.both:
            raise MemoryError
        self.entries, self.kept = self.both, values
        for i in range(n):
            self.entries[i].row = index[i]
            self.entries[i].values = cnp.PyArray_BYTES(values) + i * width * cnp.PyArray_ITEMSIZE(values)
            if self.entries[i].row < 0 or self.entries[i].row >= rows:
                raise ValueError(f"a sparse gradient has index {self.entries[i].row}, but the table has {rows} rows")
            if i and self.entries[i].row <= self.entries[i - 1].row:
                ascending = False
            largest = max(largest, self.entries[i].row)
        self.count = n
        if not ascending:
            self.entries = sort_entries(self.both, self.both + n, n, largest)
            self.merge(width, cnp.PyArray_ITEMSIZE(values))

    cdef int merge(self, Py_ssize_t width, Py_ssize_t itemsize) except -1:
        cdef Py_ssize_t i, repeated = 0, last = -1
        cdef char* sum = NULL
        cdef bint summed = False         # whether the last row's values are a sum already
        for i in range(1, self.count):
            repeated += self.entries[i].row == self.entries[i - 1].row
        if repeated:
            self.sums = sum = <char*> PyMem_Malloc(repeated * width * itemsize + 1)
            if not self.sums:
                raise MemoryError
        for i in range(self.count):
            if last < 0 or self.entries[i].row != self.entries[last].row:
                last += 1
                self.entries[last] = self.entries[i]
                summed = False
                continue
            if not summed:
                memcpy(sum, self.entries[last].values, width * itemsize)
                self.entries[last].values = sum
                sum += width * itemsize
                summed = True
            add_values(sum - width * itemsize, self.entries[i].values, width, itemsize == sizeof(double))
        self.count = last + 1
        return 0

    def __dealloc__(self):
        PyMem_Free(self.both)
        PyMem_Free(self.sums)
