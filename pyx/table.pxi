# What the driver hands to a sweep: rows (one tensor each), spans of rows, and finished coefficients.
#
# core.pyx and kernels.pyx both include this file, so that a pointer to a sweep can travel between them.

cdef enum:
    SLOTS = 5                    # state arrays that a rule can have
    HYPER = 32                   # coefficients that a rule can have, the common ones included

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
