# Reductions over one block of elements: fixed lanes in double, combined in order: the same bits on every level.

cdef enum:
    LANES = 16

ctypedef double (*Term)(real a, real b) noexcept nogil


cdef inline double product(real a, real b) noexcept nogil:
    return (<double> a) * (<double> b)


cdef inline double magnitude(real a, real b) noexcept nogil:
    return <double> fabs(a)


cdef inline double total(Term term, const real* a, const real* b, Py_ssize_t n) noexcept nogil:
    cdef double lane[LANES]
    cdef Py_ssize_t i, whole = n - n % LANES
    cdef int j, width
    for j in range(LANES):
        lane[j] = 0.0
    for i in range(n // LANES):
        for j in range(LANES):
            lane[j] = lane[j] + term(a[i * LANES + j], b[i * LANES + j])
    for i in range(whole, n):
        lane[i - whole] = lane[i - whole] + term(a[i], b[i])
    width = LANES // 2
    while width > 0:
        for j in range(width):
            lane[j] = lane[j] + lane[j + width]
        width = width // 2
    return lane[0]


cdef double dot(const void* a, const void* b, Py_ssize_t n) noexcept nogil:
    return total(product, <const real*> a, <const real*> b, n)


cdef double sum_abs(const void* a, const void* b, Py_ssize_t n) noexcept nogil:
    return total(magnitude, <const real*> a, <const real*> b, n)


cdef double max_abs(const void* a, const void* b, Py_ssize_t n) noexcept nogil:
    # NaN if any element is
    cdef real lane[LANES]
    cdef real largest = <real> 0
    cdef const real* x = <const real*> a
    cdef Py_ssize_t i, whole = n - n % LANES
    cdef int j
    for j in range(LANES):
        lane[j] = <real> 0
    for i in range(n // LANES):
        for j in range(LANES):
            lane[j] = maximum(lane[j], fabs(x[i * LANES + j]))
    for i in range(whole, n):
        lane[i - whole] = maximum(lane[i - whole], fabs(x[i]))
    for j in range(LANES):
        largest = maximum(largest, lane[j])
    return <double> largest


ctypedef double (*Reduction)(const void* a, const void* b, Py_ssize_t n) noexcept nogil


cdef void bind_reduction(str name, Reduction run):
    REDUCTIONS[name] = PyCapsule_New(<void*> run, "optimlite.reduction", NULL), sizeof(real)


bind_reduction("dot", dot)
bind_reduction("sum_abs", sum_abs)
bind_reduction("max_abs", max_abs)
