# Reductions of whole arrays over the pool: fixed blocks, combined in order, whatever the number of threads.

cdef enum:
    BLOCK = 16384                # elements; part of the definition of a result's bits
    BLOCKS_TO_SHARE = 4          # from which on a second thread pays

ctypedef double (*ReduceBlock)(const void* a, const void* b, Py_ssize_t n) noexcept nogil

cdef struct Block:
    ReduceBlock reduce
    const char* a
    const char* b
    Py_ssize_t n
    double result


cdef void run_block(void* context, Py_ssize_t k) noexcept nogil:
    cdef Block* block = (<Block*> context) + k
    block.result = block.reduce(block.a, block.b, block.n)


cdef double combine(Block* blocks, Py_ssize_t n, bint largest) noexcept nogil:
    # the sum of all results in order, or the largest (NaN if any is)
    cdef double result = 0.0
    cdef Py_ssize_t k
    for k in range(n):
        if not largest:
            result = result + blocks[k].result
        elif blocks[k].result > result or blocks[k].result != blocks[k].result:
            result = blocks[k].result
    return result


cdef double run_blocks(Block* blocks, Py_ssize_t n, bint largest) noexcept nogil:
    pool_run(run_block, blocks, n, max_threads if n >= BLOCKS_TO_SHARE else 1)
    return combine(blocks, n, largest)


cdef class Reduction:
    """A compiled reduction of one or two arrays to a double: Reduction(*REDUCTIONS[name]) of a kernel module."""
    cdef ReduceBlock reduce
    cdef readonly int itemsize

    def __init__(self, capsule, int itemsize):
        self.reduce = <ReduceBlock> PyCapsule_GetPointer(capsule, "optimlite.reduction")
        self.itemsize = itemsize


def reduce(list terms not None, bint largest=False) -> float:
    """Combines [(reduction, a, b), …] over contiguous arrays into one sum, or into the largest value.

    The caller has checked that a and b have the reduction's type, one shape and one layout.
    """
    cdef Py_ssize_t n = 0, k = 0, at
    cdef Reduction reduction
    cdef cnp.ndarray a, b
    cdef double result
    cdef Block* blocks
    for reduction, a, b in terms:
        n += (cnp.PyArray_SIZE(a) + BLOCK - 1) // BLOCK
    blocks = <Block*> PyMem_Malloc((n + 1) * sizeof(Block))
    if not blocks:
        raise MemoryError
    for reduction, a, b in terms:
        at = 0
        while at < cnp.PyArray_SIZE(a):
            blocks[k].reduce = reduction.reduce
            blocks[k].a = cnp.PyArray_BYTES(a) + at * reduction.itemsize
            blocks[k].b = cnp.PyArray_BYTES(b) + at * reduction.itemsize
            blocks[k].n = min(<Py_ssize_t> BLOCK, cnp.PyArray_SIZE(a) - at)
            at += BLOCK
            k += 1
    with nogil:
        result = run_blocks(blocks, n, largest)
    PyMem_Free(blocks)
    return result
