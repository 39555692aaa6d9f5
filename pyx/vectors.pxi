# Vectors over all parameters: one array for each parameter, cut into fixed blocks that kernels visit over the pool.
#
# Results are combined block by block in order, so neither the number of threads nor the CPU level shows in them.

ctypedef void (*Algebra)(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil

cdef struct Piece:               # elements [begin, begin + n) of one parameter
    Py_ssize_t segment
    Py_ssize_t begin
    Py_ssize_t n

cdef struct Pass:                # one kernel over all pieces
    const Piece* pieces
    Algebra* kernels             # of each piece
    void** addresses             # piece x vector
    const double* coefficients
    double* results              # piece x result
    Py_ssize_t stride            # between the coefficients of two segments: 0 if they share them
    Py_ssize_t vectors
    Py_ssize_t width             # results of a piece
    Py_ssize_t last              # the last piece, where the pass runs from back to front; else -1


cdef void run_piece(void* context, Py_ssize_t k) noexcept nogil:
    cdef const Pass* work = <const Pass*> context
    cdef Py_ssize_t i = k if work.last < 0 else work.last - k
    cdef const Piece* piece = work.pieces + i
    cdef uint64_t mode = flush_begin()
    work.kernels[i](work.addresses + i * work.vectors, work.vectors, work.coefficients + piece.segment * work.stride,
                    piece.n, work.results + i * work.width)
    flush_end(mode)


cdef class Kernel:
    """A compiled kernel of vector algebra: Kernel(*ALGEBRA[name]) of a kernel module."""
    cdef Algebra run
    cdef readonly int sums, rows, per_row, maxima, itemsize

    def __init__(self, capsule, int sums, int rows, int per_row, int maxima, int itemsize):
        self.run = <Algebra> PyCapsule_GetPointer(capsule, "optimlite.algebra")
        self.sums, self.rows, self.per_row, self.maxima, self.itemsize = sums, rows, per_row, maxima, itemsize


cdef class Vector:
    """A vector over all parameters: contiguous arrays of the parameters' types and layouts, kept alive."""
    cdef readonly list arrays
    cdef char** data

    def __cinit__(self, list arrays not None):
        cdef Py_ssize_t k
        self.arrays = arrays
        self.data = <char**> PyMem_Malloc((len(arrays) + 1) * sizeof(char*))
        if not self.data:
            raise MemoryError
        for k in range(len(arrays)):
            self.data[k] = cnp.PyArray_BYTES(<cnp.ndarray?> arrays[k])

    def __dealloc__(self):
        PyMem_Free(self.data)


cdef class Pieces:
    """Pieces(sizes, itemsizes): the cut of all vectors over parameters of these sizes."""
    cdef Piece* pieces
    cdef Py_ssize_t count, segments
    cdef int* itemsizes
    cdef readonly Py_ssize_t runs                # kernels that are through: an interrupt before or after one can tell

    def __cinit__(self, list sizes not None, list itemsizes not None):
        cdef Py_ssize_t k, at, size
        self.segments = len(sizes)
        for size in sizes:
            self.count += (size + BLOCK - 1) // BLOCK
        self.pieces = <Piece*> PyMem_Malloc((self.count + 1) * sizeof(Piece))
        self.itemsizes = <int*> PyMem_Malloc((self.segments + 1) * sizeof(int))
        if not (self.pieces and self.itemsizes):
            raise MemoryError
        self.count = 0
        for k, size in enumerate(sizes):
            self.itemsizes[k] = itemsizes[k]
            for at in range(0, size, BLOCK):
                self.pieces[self.count] = Piece(k, at, min(<Py_ssize_t> BLOCK, size - at))
                self.count += 1

    def __dealloc__(self):
        PyMem_Free(self.pieces)
        PyMem_Free(self.itemsizes)

    def run(self, tuple kernels not None, list vectors not None, cnp.ndarray coefficients not None,
            bint backwards=False) -> list:
        """Runs a kernel (given for float32 and float64) over all pieces and returns its results, combined in order.

        `coefficients` (float64, contiguous, 2-d) has one row, or one for each parameter.  `backwards` visits the last
        piece first: it is the one that a pass before has left in the cache.  The caller has checked types, shapes and
        layouts.
        """
        cdef Py_ssize_t n = len(vectors), i, k, width, sums
        cdef Kernel single = kernels[0], wide = kernels[1], kernel
        cdef Vector vector
        cdef Pass work
        cdef double* results
        cdef void* block
        sums = single.sums + single.per_row * (n - single.rows)
        width = sums + single.maxima
        block = PyMem_Calloc(1, self.count * (n * sizeof(void*) + sizeof(Algebra) + width * sizeof(double)) + 1)
        if not block:
            raise MemoryError
        work.addresses = <void**> block
        work.kernels = <Algebra*> (work.addresses + self.count * n)
        work.results = results = <double*> (work.kernels + self.count)
        work.pieces, work.vectors, work.width = self.pieces, n, width
        work.coefficients = <const double*> cnp.PyArray_DATA(coefficients)
        work.stride = cnp.PyArray_DIM(coefficients, 1) if cnp.PyArray_DIM(coefficients, 0) > 1 else 0
        work.last = self.count - 1 if backwards else -1
        for k in range(n):
            vector = vectors[k]
            for i in range(self.count):
                work.addresses[i * n + k] = (vector.data[self.pieces[i].segment]
                                             + self.pieces[i].begin * self.itemsizes[self.pieces[i].segment])
        for i in range(self.count):
            kernel = single if self.itemsizes[self.pieces[i].segment] == single.itemsize else wide
            work.kernels[i] = kernel.run
        with nogil:
            pool_run(run_piece, &work, self.count, max_threads if self.count >= PAY else 1)
            for i in range(1, self.count):
                for k in range(sums):
                    results[k] = results[k] + results[i * width + k]
                for k in range(sums, width):
                    if results[i * width + k] > results[k] or results[i * width + k] != results[i * width + k]:
                        results[k] = results[i * width + k]
        self.runs += 1
        values = [results[k] for k in range(width)] if self.count else [0.0] * width
        PyMem_Free(block)
        return values


def two_loops(cnp.ndarray sy not None, cnp.ndarray yy not None, list sg not None, list yg not None,
              list order not None, double gamma) -> tuple:
    """The two-loop recursion of L-BFGS in coefficients: -H g = -gamma g + sum a_i s_i + b_i y_i.

    `sy` and `yy` (float64, square, contiguous) hold the products s_i.y_j and y_i.y_j of the history by slot; `order`
    gives the slots from the oldest pair to the newest; `sg` and `yg` are the products with the gradient in that order,
    as are the results a and b.
    """
    cdef Py_ssize_t n = len(order), m = cnp.PyArray_DIM(sy, 0), i, j
    cdef const double* s_y = <const double*> cnp.PyArray_DATA(sy)
    cdef const double* y_y = <const double*> cnp.PyArray_DATA(yy)
    cdef double value
    cdef double* a = <double*> PyMem_Malloc((2 * n + 1) * sizeof(double))
    cdef double* b = a + n
    cdef Py_ssize_t* slot = <Py_ssize_t*> PyMem_Malloc((n + 1) * sizeof(Py_ssize_t))
    if not (a and slot):
        PyMem_Free(a)
        PyMem_Free(slot)
        raise MemoryError
    for i in range(n):
        slot[i] = order[i]
    for i in range(n - 1, -1, -1):               # q = -g - sum_j b_j y_j;  b_i = s_i.q / s_i.y_i
        value = -<double> sg[i]
        for j in range(n - 1, i, -1):
            value = value - b[j] * s_y[slot[i] * m + slot[j]]
        b[i] = value / s_y[slot[i] * m + slot[i]]
    for i in range(n):                           # r = gamma q + sum_j a_j s_j;  a_i = b_i - y_i.r / s_i.y_i
        value = -<double> yg[i]
        for j in range(n):
            value = value - b[j] * y_y[slot[i] * m + slot[j]]
        value = gamma * value
        for j in range(i):
            value = value + a[j] * s_y[slot[j] * m + slot[i]]
        a[i] = b[i] - value / s_y[slot[i] * m + slot[i]]
    result = [a[i] for i in range(n)], [-gamma * b[i] for i in range(n)]
    PyMem_Free(a)
    PyMem_Free(slot)
    return result
