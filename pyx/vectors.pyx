# Vector kernels over arrays: reductions, changes in place, and the algebra of L-BFGS and conjugate gradients.
#
# Arrays are cut into fixed blocks, which kernels visit over the pool, and results are combined block by block in order:
# neither the number of threads nor the CPU level shows in them.

cimport numpy as cnp
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc

from .runtime cimport Kernel, run_jobs
from .strided cimport copy_between
from .table cimport BLOCK, VectorKernel

cnp.import_array()

cdef enum:
    ARRAY_COST = 64              # what visiting an array costs, in elements


cdef struct Block:               # elements [begin, begin + n) of one array of each vector
    Py_ssize_t segment
    Py_ssize_t begin
    Py_ssize_t n

cdef struct VectorPass:          # one kernel over all blocks
    const Block* blocks
    const Py_ssize_t* first      # block of each job
    Py_ssize_t jobs
    bint backwards               # the last job first: it is the one that a pass before has left in the cache
    VectorKernel* kernels        # of each block
    void** addresses             # block x vector
    const double* coefficients
    double* results              # block x result
    Py_ssize_t stride            # between the coefficients of two segments: 0 if they share them
    Py_ssize_t vectors
    Py_ssize_t width             # results of a block


cdef void run_blocks(void* context, Py_ssize_t k) noexcept nogil:
    cdef const VectorPass* work = <const VectorPass*> context
    cdef Py_ssize_t job = work.jobs - 1 - k if work.backwards else k, i
    for i in range(work.first[job], work.first[job + 1]):
        work.kernels[i](work.addresses + i * work.vectors, work.vectors,
                        work.coefficients + work.blocks[i].segment * work.stride, work.blocks[i].n,
                        work.results + i * work.width)


cdef class Vector:
    """A vector over all parameters: contiguous arrays of the parameters' types (or all of 16 bits), laid out as they
    are stepped, kept alive."""
    cdef readonly list arrays
    cdef readonly bint halves            # arrays of 16 bits, a history's
    cdef char** data

    def __cinit__(self, list arrays not None):
        cdef Py_ssize_t k
        self.arrays = arrays
        self.halves = bool(arrays) and cnp.PyArray_TYPE(<cnp.ndarray?> arrays[0]) == cnp.NPY_UINT16
        self.data = <char**> PyMem_Malloc((len(arrays) + 1) * sizeof(char*))
        if not self.data:
            raise MemoryError
        for k in range(len(arrays)):
            self.data[k] = cnp.PyArray_BYTES(<cnp.ndarray?> arrays[k])

    def __dealloc__(self):
        PyMem_Free(self.data)


cdef class Blocks:
    """Blocks(sizes, itemsizes): the cut of all vectors over parameters of these sizes."""
    cdef Block* blocks
    cdef Py_ssize_t* first               # block of each job, of about BLOCK elements: many small arrays are one job
    cdef Py_ssize_t count, jobs, segments
    cdef int* itemsizes
    cdef readonly Py_ssize_t finished    # kernels: code that runs after an interrupt sees whether the last one was done

    def __cinit__(self, list sizes not None, list itemsizes not None):
        cdef Py_ssize_t k, at, size, n, weight = BLOCK
        self.segments = len(sizes)
        for size in sizes:
            self.count += (size + BLOCK - 1) // BLOCK
        self.blocks = <Block*> PyMem_Malloc((self.count + 1) * sizeof(Block))
        self.first = <Py_ssize_t*> PyMem_Malloc((self.count + 1) * sizeof(Py_ssize_t))
        self.itemsizes = <int*> PyMem_Malloc((self.segments + 1) * sizeof(int))
        if not (self.blocks and self.first and self.itemsizes):
            raise MemoryError
        self.count = 0
        for k, size in enumerate(sizes):
            self.itemsizes[k], at = itemsizes[k], 0
            while at < size:
                if weight >= BLOCK:
                    self.first[self.jobs] = self.count
                    self.jobs += 1
                    weight = 0
                n = min(<Py_ssize_t> BLOCK, size - at)
                self.blocks[self.count] = Block(k, at, n)
                self.count += 1
                weight += n + ARRAY_COST
                at += BLOCK
        self.first[self.jobs] = self.count

    def __dealloc__(self):
        PyMem_Free(self.blocks)
        PyMem_Free(self.first)
        PyMem_Free(self.itemsizes)

    def run(self, tuple kernels not None, list vectors not None, cnp.ndarray coefficients not None,
            bint backwards=False, bint by_array=False) -> list:
        """Runs a kernel (given for float32 and float64) over all blocks and returns its results, combined in order.

        `coefficients` (float64, contiguous, 2-d) has one row, or one for each parameter.  `backwards` visits the last
        block first.  `by_array`: returns the first sum of each array instead.  The caller has checked types, shapes and
        layouts.
        """
        cdef Py_ssize_t n = len(vectors), i, k, width, sums
        cdef Kernel single = kernels[0], wide = kernels[1], kernel
        cdef Vector vector
        cdef VectorPass work
        cdef double* results
        cdef void* memory
        sums = single.row.sums + single.row.per_row * (n - single.row.first_row)
        width = sums + single.row.maxima
        memory = PyMem_Calloc(1, self.count * (n * sizeof(void*) + sizeof(VectorKernel) + width * sizeof(double)) + 1)
        if not memory:
            raise MemoryError
        work.addresses = <void**> memory
        work.kernels = <VectorKernel*> (work.addresses + self.count * n)
        work.results = results = <double*> (work.kernels + self.count)
        work.blocks, work.first, work.jobs, work.backwards = self.blocks, self.first, self.jobs, backwards
        work.vectors, work.width = n, width
        work.coefficients = <const double*> cnp.PyArray_DATA(coefficients)
        work.stride = cnp.PyArray_DIM(coefficients, 1) if cnp.PyArray_DIM(coefficients, 0) > 1 else 0
        for k in range(n):
            vector = vectors[k]
            for i in range(self.count):
                work.addresses[i * n + k] = vector.data[self.blocks[i].segment] + self.blocks[i].begin * (
                    2 if vector.halves else self.itemsizes[self.blocks[i].segment])
        for i in range(self.count):
            kernel = single if self.itemsizes[self.blocks[i].segment] == single.row.itemsize else wide
            work.kernels[i] = kernel.row.vector
        run_jobs(run_blocks, &work, self.jobs)
        if by_array:
            values = [0.0] * self.segments
            for i in range(self.count):
                values[self.blocks[i].segment] += results[i * width]
            PyMem_Free(memory)
            return values
        for i in range(1, self.count):
            for k in range(sums):
                results[k] = results[k] + results[i * width + k]
            for k in range(sums, width):
                if results[i * width + k] > results[k] or results[i * width + k] != results[i * width + k]:
                    results[k] = results[i * width + k]
        self.finished += 1
        values = [results[k] for k in range(width)] if self.count else [0.0] * width
        PyMem_Free(memory)
        return values


def copy_each(list strided not None, list contiguous not None, bint gathers) -> None:
    """Copies from the strided arrays or into them: in one call, so that an interrupt finds all copied or none."""
    cdef Py_ssize_t k
    for k in range(len(strided)):
        copy_between(<cnp.ndarray?> strided[k], <cnp.ndarray?> contiguous[k], gathers)


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
