# Gradients, what parameters were, and what a step has moved them by: measured in the sweep, strip by strip, while these
# are in the cache.

cdef struct Squares:
    double gradient              # as it is bound: neither scaled nor clipped
    double before                # of what it was
    double change                # of what it has moved by


cdef class Probe:
    """Probe(single, wide, gradients, each): filled by a step that is given one.

    `single`, `wide`: `sum_squares` and `move` of either float type.  `gradient`, `before`, `change`: the sums of
    squares of gradients, of what parameters were and of what they have moved by.  `found`: the same of each, behind it.
    Gradients, and each, where they are asked for.  A sparse gradient's parameter is the rows that it touches.
    """
    cdef readonly double gradient, before, change
    cdef readonly list found
    cdef bint gradients, each
    cdef VectorKernel kernels[2][2]

    def __cinit__(self, tuple single not None, tuple wide not None, bint gradients, bint each):
        cdef int k
        self.found, self.gradients, self.each = [], gradients, each
        for k in range(2):
            self.kernels[0][k] = (<Kernel> single[k]).row.vector
            self.kernels[1][k] = (<Kernel> wide[k]).row.vector

    cdef int add(self, parameter, const Squares* squares) except -1:
        self.gradient += squares.gradient
        self.before += squares.before
        self.change += squares.change
        if self.each:
            self.found.append((parameter, squares.gradient, squares.before, squares.change))
        return 0

    cdef inline VectorKernel* of(self, int itemsize) noexcept:
        return self.kernels[itemsize == 8]


cdef enum:
    STRIP = 2 * TILE             # doubles, or twice as many floats: fewer would let the memory wait while sums are made


cdef struct Probed:              # a launch
    Squares* squares             # of each span; NULL: nobody asked
    const VectorKernel* kernels
    int itemsize
    bint gradients


cdef inline const void* gradient_as_floats(const Work* a, const Span* strip, int itemsize, void* room) noexcept nogil:
    cdef const Beside* beside = &a.beside[strip.entry] if strip.entry < a.n_beside else NULL
    cdef const char* grad = <const char*> a.entries[strip.entry].grad
    if beside == NULL or beside.gradient == NULL:
        return grad + strip.begin * itemsize
    beside.gradient.decode(grad + strip.begin * beside.gradient.bytes, NULL, room, strip.end - strip.begin)
    return room


cdef inline const void* parameter_as_floats(const Work* a, const Span* strip, int itemsize, void* room) noexcept nogil:
    cdef const Beside* beside = &a.beside[strip.entry] if strip.entry < a.n_beside else NULL
    cdef const char* param = <const char*> a.entries[strip.entry].param
    if beside == NULL or beside.parameter == NULL:
        return param + strip.begin * itemsize
    beside.parameter.decode(<const uint16_t*> param + strip.begin,
                            <const uint16_t*> beside.rest + strip.begin if beside.rest != NULL else NULL, room,
                            strip.end - strip.begin)
    return room


cdef void run_probed(const Job* job) noexcept nogil:
    cdef double before[STRIP]
    cdef double change[STRIP]
    cdef double read[STRIP]              # what is stored in another type
    cdef double minus = -1.0
    cdef const Probed* probed = job.probed
    cdef Work work = job.work[0]
    cdef Span strip
    cdef const void* vectors[3]
    cdef Squares* squares
    cdef Py_ssize_t k, n, end, most = STRIP * sizeof(double) // probed.itemsize
    work.spans = &strip
    for k in range(job.first, job.last):
        strip, squares = job.work.spans[k], &probed.squares[k]
        end, squares.gradient, squares.before, squares.change = strip.end, 0.0, 0.0, 0.0
        while strip.begin < end:
            n = min(most, end - strip.begin)
            strip.end = strip.begin + n
            if probed.gradients:         # before the sweep zeroes them
                vectors[0] = gradient_as_floats(&work, &strip, probed.itemsize, read)
                probed.kernels[0](<void**> vectors, 1, NULL, n, &squares.gradient)
            memcpy(before, parameter_as_floats(&work, &strip, probed.itemsize, read), n * probed.itemsize)
            job.run(&work, 0, 1)
            vectors[0], vectors[2] = change, before
            vectors[1] = parameter_as_floats(&work, &strip, probed.itemsize, read)
            probed.kernels[1](<void**> vectors, 3, &minus, n, NULL)      # change = p - before
            probed.kernels[0](<void**> vectors, 1, NULL, n, &squares.change)
            probed.kernels[0](<void**> (vectors + 2), 1, NULL, n, &squares.before)
            strip.begin = strip.end
