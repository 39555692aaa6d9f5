# Sums over matrices: fixed tiles, read over the pool and combined in order, whatever the number of threads.

cdef enum:
    TILE_ROWS = 64               # part of the definition of a result's bits, as is the next
    TILE_COLUMNS = 1024

cdef struct Matrices:            # one behind the other, and what is summed over them
    ReadTile read
    const double* c
    const char* g
    const char* a                # a value for each row
    const char* b                # a value for each column
    Py_ssize_t itemsize
    Py_ssize_t count             # of matrices
    Py_ssize_t n                 # rows and columns of each
    Py_ssize_t m
    Py_ssize_t down              # tiles, one below the other and side by side
    Py_ssize_t across
    Py_ssize_t together          # tiles in a thread's part
    Py_ssize_t parts
    double* rows                 # matrix x tile across x row
    double* columns              # matrix x tile down x column
    double* lanes                # part x lane


cdef class Reading:
    """A compiled kernel that sums over a tile: Reading(*READINGS[name]) of a kernel module."""
    cdef ReadTile read
    cdef readonly int itemsize

    def __init__(self, capsule, int itemsize):
        self.read = <ReadTile> PyCapsule_GetPointer(capsule, "optimlite.reading")
        self.itemsize = itemsize


cdef void read_part(void* context, Py_ssize_t part) noexcept nogil:
    cdef const Matrices* x = <const Matrices*> context
    cdef Py_ssize_t first = part * x.together, last = min(first + x.together, x.count * x.down * x.across), tile
    cdef Py_ssize_t band = first // x.across, matrix = band // x.down
    cdef Py_ssize_t k = band - matrix * x.down, j = first - band * x.across
    cdef Py_ssize_t row, column
    cdef Tile t
    cdef uint64_t mode = flush_begin()
    t.stride, t.lanes = x.m, x.lanes + part * LANES
    memset(t.lanes, 0, LANES * sizeof(double))
    for tile in range(first, last):
        row, column = k * TILE_ROWS, j * TILE_COLUMNS
        t.n, t.m = min(<Py_ssize_t> TILE_ROWS, x.n - row), min(<Py_ssize_t> TILE_COLUMNS, x.m - column)
        t.g = x.g + ((matrix * x.n + row) * x.m + column) * x.itemsize
        t.a = x.a + (matrix * x.n + row) * x.itemsize
        t.b = x.b + (matrix * x.m + column) * x.itemsize
        t.rows = x.rows + (matrix * x.across + j) * x.n + row
        t.columns = x.columns + (matrix * x.down + k) * x.m + column
        x.read(&t, x.c)
        j += 1
        if j == x.across:
            j, k = 0, k + 1
            if k == x.down:
                k, matrix = 0, matrix + 1
    flush_end(mode)


cdef void add_up(double* x, Py_ssize_t count, Py_ssize_t n) noexcept nogil:
    # x[0] + x[1] + ... in x[0], of `count` vectors of n elements
    cdef Py_ssize_t k, i
    for k in range(1, count):
        for i in range(n):
            x[i] = x[i] + x[k * n + i]


cdef void add_lines(const Matrices* x) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(x.count):
        add_up(x.rows + k * x.across * x.n, x.across, x.n)
        add_up(x.columns + k * x.down * x.m, x.down, x.m)


cdef inline bint small(const Matrices* x) noexcept nogil:
    return x.count * x.n * x.m < PAY * BLOCK     # not worth giving up the GIL


cdef int cut(Matrices* x, Reading reading, cnp.ndarray g, tuple shape) except -1:
    # what is read, and its tiles and parts
    x.read, x.itemsize = reading.read, reading.itemsize
    x.g = x.a = x.b = cnp.PyArray_BYTES(g)
    x.count, x.n, x.m = shape
    x.down, x.across = (x.n + TILE_ROWS - 1) // TILE_ROWS, (x.m + TILE_COLUMNS - 1) // TILE_COLUMNS
    x.together = max(1, BLOCK // (min(<Py_ssize_t> TILE_ROWS, x.n) * min(<Py_ssize_t> TILE_COLUMNS, x.m)))
    x.parts = (x.count * x.down * x.across + x.together - 1) // x.together
    return 0


cdef int read_all(Matrices* x, tuple coefficients) except -1:
    cdef double[4] c
    cdef Py_ssize_t k
    if len(coefficients) > 4:
        raise ValueError("a kernel over tiles has at most 4 coefficients")
    for k, value in enumerate(coefficients):
        c[k] = value
    x.c = c
    if small(x):
        for k in range(x.parts):
            read_part(x, k)
    else:
        with nogil:
            pool_run(read_part, x, x.parts, max_threads)
    return 0


def sums_by_line(Reading reading not None, cnp.ndarray g not None, tuple shape not None,
                 tuple coefficients not None) -> tuple:
    """Sums over each row and over each column of matrices that stand in memory one behind the other, as float64.

    `shape` is the number of matrices, their rows and columns, all > 0.  The caller has checked types and sizes.
    """
    cdef Matrices x
    cut(&x, reading, g, shape)
    cdef cnp.ndarray rows = np.empty((x.count, x.across, x.n)), columns = np.empty((x.count, x.down, x.m))
    cdef cnp.ndarray lanes = np.empty((x.parts, LANES))
    x.rows, x.columns = <double*> cnp.PyArray_DATA(rows), <double*> cnp.PyArray_DATA(columns)
    x.lanes = <double*> cnp.PyArray_DATA(lanes)
    read_all(&x, coefficients)
    if small(&x):
        add_lines(&x)
    else:
        with nogil:
            add_lines(&x)
    return rows[:, 0], columns[:, 0]


def sum_over_tiles(Reading reading not None, cnp.ndarray g not None, cnp.ndarray a not None, cnp.ndarray b not None,
                   tuple shape not None, tuple coefficients not None) -> float:
    """The sum over all elements, as `sums_by_line`; `a` and `b` hold a value for each row and for each column."""
    cdef Matrices x
    cdef Py_ssize_t k
    cdef double total = 0.0
    cut(&x, reading, g, shape)
    cdef cnp.ndarray lanes = np.empty((x.parts, LANES))
    x.a, x.b, x.lanes = cnp.PyArray_BYTES(a), cnp.PyArray_BYTES(b), <double*> cnp.PyArray_DATA(lanes)
    x.rows = x.columns = x.lanes                 # no kernel for this writes to them
    read_all(&x, coefficients)
    for k in range(x.parts):
        total = total + fold(x.lanes + k * LANES)
    return total
