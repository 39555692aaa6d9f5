# Reductions over the pool: fixed blocks of each array, combined in order, whatever the number of threads.

cdef enum:
    BLOCK = 16384                # elements; part of the definition of a result's bits

ctypedef double (*ReduceBlock)(const void* a, const void* b, Py_ssize_t n) noexcept nogil

cdef struct Block:
    ReduceBlock reduce
    const char* a
    const char* b
    Py_ssize_t n
    double result

cdef struct Blocks:              # gathered into parts of about BLOCK elements: many small arrays are one part
    Block* block
    Py_ssize_t* part             # the first block of each part
    Py_ssize_t n, parts, weight


cdef class Reduction:
    """A compiled reduction of one or two arrays to a double: Reduction(*REDUCTIONS[name]) of a kernel module."""
    cdef ReduceBlock reduce
    cdef readonly int itemsize

    def __init__(self, capsule, int itemsize):
        self.reduce = <ReduceBlock> PyCapsule_GetPointer(capsule, "optimlite.reduction")
        self.itemsize = itemsize


cdef inline Py_ssize_t blocks_of(Py_ssize_t size) noexcept:
    return (size + BLOCK - 1) // BLOCK


cdef int new_blocks(Blocks* blocks, Py_ssize_t n) except -1:
    blocks.block = <Block*> PyMem_Malloc(n * sizeof(Block) + (n + 1) * sizeof(Py_ssize_t))
    if not blocks.block:
        raise MemoryError
    blocks.part = <Py_ssize_t*> (blocks.block + n)
    blocks.n = blocks.parts = 0
    blocks.weight = BLOCK
    return 0


cdef void add_blocks(Blocks* blocks, Reduction reduction, const char* a, const char* b, Py_ssize_t size) noexcept:
    cdef Py_ssize_t at = 0, n
    cdef Block* block
    while at < size:
        n = min(<Py_ssize_t> BLOCK, size - at)
        if blocks.weight >= BLOCK:
            blocks.part[blocks.parts] = blocks.n
            blocks.parts += 1
            blocks.weight = 0
        block = blocks.block + blocks.n
        block.reduce, block.n = reduction.reduce, n
        block.a, block.b = a + at * reduction.itemsize, b + at * reduction.itemsize
        blocks.n += 1
        blocks.weight += n + TENSOR
        at += BLOCK


cdef void run_blocks(void* context, Py_ssize_t k) noexcept nogil:
    # last part first: a step that follows finds the arrays that it begins with in the cache
    cdef Blocks* blocks = <Blocks*> context
    cdef Py_ssize_t part = blocks.parts - 1 - k, i
    cdef uint64_t mode = flush_begin()
    for i in range(blocks.part[part], blocks.part[part + 1]):
        blocks.block[i].result = blocks.block[i].reduce(blocks.block[i].a, blocks.block[i].b, blocks.block[i].n)
    flush_end(mode)


cdef double finish_blocks(Blocks* blocks, bint largest) noexcept:
    # the sum of all results in order, or the largest (NaN if any is)
    cdef double result = 0.0, value
    cdef Py_ssize_t k
    blocks.part[blocks.parts] = blocks.n
    if blocks.parts < PAY:           # not worth giving up the GIL
        for k in range(blocks.parts):
            run_blocks(blocks, k)
    else:
        with nogil:
            pool_run(run_blocks, blocks, blocks.parts, max_threads)
    for k in range(blocks.n):
        value = blocks.block[k].result
        if not largest:
            result = result + value
        elif value > result or value != value:
            result = value
    PyMem_Free(blocks.block)
    return result


def reduce(list terms not None, bint largest=False) -> float:
    """Combines [(reduction, a, b), …] over contiguous arrays into one sum, or into the largest value.

    The caller has checked that a and b have the reduction's type, one shape and one layout.
    """
    cdef Py_ssize_t n = 0
    cdef Reduction reduction
    cdef cnp.ndarray a, b
    cdef Blocks blocks
    for reduction, a, b in terms:
        n += blocks_of(cnp.PyArray_SIZE(a))
    new_blocks(&blocks, n)
    for reduction, a, b in terms:
        add_blocks(&blocks, reduction, cnp.PyArray_BYTES(a), cnp.PyArray_BYTES(b), cnp.PyArray_SIZE(a))
    return finish_blocks(&blocks, largest)


def reduce_gradients(list terms not None, bint largest=False) -> float:
    """As `reduce`, over the gradients that are bound in plans: [(reduction, plan), …]."""
    cdef Py_ssize_t n = 0, i, k
    cdef Reduction reduction
    cdef Plan plan
    cdef Blocks blocks
    for _, plan in terms:
        for i in range(plan.count):
            for k in range(plan.begin[i], plan.end[i]):
                n += blocks_of(plan.rows[k].size)
    new_blocks(&blocks, n)
    for reduction, plan in terms:
        for i in range(plan.count):
            if not plan.rows[i].grad:
                continue
            for k in range(plan.begin[i], plan.end[i]):
                add_blocks(&blocks, reduction, <char*> plan.rows[k].grad, <char*> plan.rows[k].grad, plan.rows[k].size)
    return finish_blocks(&blocks, largest)
