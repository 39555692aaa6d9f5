# What the driver hands to a sweep: rows (one tensor each), spans of rows, and coefficients; to a reading: a tile.
#
# core.pyx and kernels.pyx both include this file, so that a pointer to a sweep can travel between them.

cdef enum:
    SLOTS = 5                    # state arrays that a rule can have
    HYPER = 32                   # coefficients that a rule can have, the common ones included
    LANES = 16                   # of a sum in double; part of the definition of a result's bits

cdef struct Row:                 # 64 bytes: one cache line per tensor
    void* param
    void* grad                   # written only where zeroing was asked for: gradients belong to the caller
    void* state[SLOTS]
    Py_ssize_t size

cdef struct Span:                # elements [begin, end) of one row
    Py_ssize_t row
    Py_ssize_t begin
    Py_ssize_t end

cdef struct Work:
    const Row* rows
    const Span* spans
    const void* hyper            # HYPER numbers of the arrays' type: the common ones, then the rule's struct
    bint zero_grad               # leave zeros in the gradient

ctypedef void (*Sweep)(const Work* work, Py_ssize_t first, Py_ssize_t last) noexcept nogil

cdef struct Tile:                # n x m elements of a matrix, whose rows are `stride` elements apart
    const void* g
    const void* a                # a value for each row
    const void* b                # a value for each column
    Py_ssize_t n
    Py_ssize_t m
    Py_ssize_t stride
    double* rows                 # for the sum of each row
    double* columns              # for the sum of each column
    double* lanes                # for the sum of all: LANES sums, an element's by its column

ctypedef void (*ReadTile)(const Tile* tile, const double* coefficients) noexcept nogil


cdef inline double fold(double* lane) noexcept nogil:
    # the lanes' sum; constant bounds: they stay in registers
    cdef int j
    for j in range(8):
        lane[j] = lane[j] + lane[j + 8]
    for j in range(4):
        lane[j] = lane[j] + lane[j + 4]
    return (lane[0] + lane[2]) + (lane[1] + lane[3])
