# Reductions over one block of elements: fixed lanes in double, combined in order: the same bits on every level.

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #ifdef OPTIMLITE_DOUBLE
      typedef int64_t real_bits;
    #else
      typedef int32_t real_bits;
    #endif
    static inline real_bits bits_of(real x) { real_bits bits; memcpy(&bits, &x, sizeof bits); return bits; }
    static inline real real_of(real_bits bits) { real x; memcpy(&x, &bits, sizeof x); return x; }
    """
    ctypedef long real_bits
    real_bits bits_of(real x) noexcept nogil
    real real_of(real_bits bits) noexcept nogil

ctypedef double (*Term)(real a, real b) noexcept nogil


cdef inline double product(real a, real b) noexcept nogil:
    return (<double> a) * (<double> b)


cdef inline double square(real a, real b) noexcept nogil:
    return (<double> a) * (<double> a)


cdef inline double magnitude(real a, real b) noexcept nogil:
    return <double> fabs(a)


cdef inline void fetch_ahead(const real* a, Py_ssize_t i) noexcept nogil:
    # While rows of lanes are read, the next 256 of them, from four pages in turn: alone, or from one page at a time, a
    # stream of reads is slower than the memory.
    cdef Py_ssize_t k = i & 255
    cdef const real* line = a + ((i | 255) + 1 + ((k & 3) << 6) + (k >> 2)) * LANES
    prefetch(line)
    if sizeof(real) == 8:
        prefetch(line + 8)


cdef inline double total(Term term, const real* a, const real* b, Py_ssize_t n) noexcept nogil:
    cdef double lane[LANES]
    cdef Py_ssize_t i, whole = n - n % LANES
    cdef int j
    if n < LANES:
        for j in range(LANES):
            lane[j] = 0.0
    else:                        # not zeros first: for a short array, clearing the lanes is a third of the time
        for j in range(LANES):
            lane[j] = 0.0 + term(a[j], b[j])
    for i in range(1, n // LANES):
        fetch_ahead(a, i)
        for j in range(LANES):
            lane[j] = lane[j] + term(a[i * LANES + j], b[i * LANES + j])
    for i in range(whole, n):
        lane[i - whole] = lane[i - whole] + term(a[i], b[i])
    return fold(lane)


cdef double dot(const void* a, const void* b, Py_ssize_t n) noexcept nogil:
    return total(product, <const real*> a, <const real*> b, n)


cdef double sum_squares(const void* a, const void* b, Py_ssize_t n) noexcept nogil:
    # as dot(a, a): one load and one conversion less
    return total(square, <const real*> a, <const real*> b, n)


cdef double sum_abs(const void* a, const void* b, Py_ssize_t n) noexcept nogil:
    return total(magnitude, <const real*> a, <const real*> b, n)


cdef double max_abs(const void* a, const void* b, Py_ssize_t n) noexcept nogil:
    # NaN if any element is: without the sign, floats are in the order of their bits, and NaN comes above infinity
    cdef const real* x = <const real*> a
    cdef real_bits largest = 0, bits
    cdef Py_ssize_t i
    for i in range(n):
        bits = bits_of(fabs(x[i]))
        largest = bits if bits > largest else largest
    return <double> real_of(largest)


ctypedef double (*Reduction)(const void* a, const void* b, Py_ssize_t n) noexcept nogil


cdef void bind_reduction(str name, Reduction run):
    REDUCTIONS[name] = PyCapsule_New(<void*> run, "optimlite.reduction", NULL), sizeof(real)


bind_reduction("dot", dot)
bind_reduction("sum_squares", sum_squares)
bind_reduction("sum_abs", sum_abs)
bind_reduction("max_abs", max_abs)
