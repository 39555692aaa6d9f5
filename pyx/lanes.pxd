# Sums over elements: fixed lanes in double, combined in order, so that they have the same bits on every level.

from .real cimport bits_of, fabs, prefetch, real, real_bits, real_of
from .table cimport LANES

ctypedef double (*Term)(real a, real b) noexcept nogil


cdef inline double product(real a, real b) noexcept nogil:
    return (<double> a) * (<double> b)


cdef inline double square(real a, real b) noexcept nogil:
    return (<double> a) * (<double> a)


cdef inline double magnitude(real a, real b) noexcept nogil:
    return <double> fabs(a)


cdef inline double itself(real a, real b) noexcept nogil:
    return <double> a


cdef inline double sum_lanes(double* lane) noexcept nogil:
    # constant bounds: they stay in registers
    cdef int j
    for j in range(8):
        lane[j] = lane[j] + lane[j + 8]
    for j in range(4):
        lane[j] = lane[j] + lane[j + 4]
    return (lane[0] + lane[2]) + (lane[1] + lane[3])


cdef inline void fetch_ahead(const real* a, Py_ssize_t i) noexcept nogil:
    # While rows of lanes are read, the next 256 of them, from four pages in turn: alone, or from one page at a time, a
    # stream of reads is slower than the memory.
    cdef Py_ssize_t k = i & 255
    cdef const real* line = a + ((i | 255) + 1 + ((k & 3) << 6) + (k >> 2)) * LANES
    prefetch(line)
    if sizeof(real) == 8:
        prefetch(line + 8)


cdef inline double total(Term term, const real* a, const real* b, Py_ssize_t n, bint streamed=True) noexcept nogil:
    # `streamed`: from memory, not from the cache
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
        if streamed:
            fetch_ahead(a, i)
        for j in range(LANES):
            lane[j] = lane[j] + term(a[i * LANES + j], b[i * LANES + j])
    for i in range(whole, n):
        lane[i - whole] = lane[i - whole] + term(a[i], b[i])
    return sum_lanes(lane)


cdef inline double largest_magnitude(const real* x, Py_ssize_t n) noexcept nogil:
    # NaN if any element is: without the sign, floats are in the order of their bits, and NaN comes above infinity
    cdef real_bits largest = 0, bits
    cdef Py_ssize_t i
    for i in range(n):
        bits = bits_of(fabs(x[i]))
        largest = bits if bits > largest else largest
    return <double> real_of(largest)
