# A step that is watched, for any rule: the squares of what parameters were, of what they have moved by and of their
# gradients, summed around the sweep, tile by tile, while these are in the first-level cache.

from libc.string cimport memcpy

from .lanes cimport sum_lanes
from .passes cimport read_gradient, read_parameter, zero_gradient
from .real cimport const_real_array, infinity, real, real_array
from .reductions cimport sum_squares
from .table cimport LANES, MOVED, TILE, Span, Work

cdef inline void square_tile(const_real_array p, const_real_array was, const_real_array g, Py_ssize_t n,
                             real_array gradient, real_array before, real_array moved) noexcept nogil:
    # in lanes of the float type, which take a third of the time of doubles
    cdef real d
    cdef Py_ssize_t i, whole = n - n % LANES
    cdef int j
    for j in range(LANES):
        gradient[j] = before[j] = moved[j] = <real> 0
    for i in range(n // LANES):
        for j in range(LANES):
            d = p[i * LANES + j] - was[i * LANES + j]
            moved[j] = moved[j] + d * d
            before[j] = before[j] + was[i * LANES + j] * was[i * LANES + j]
            gradient[j] = gradient[j] + g[i * LANES + j] * g[i * LANES + j]
    for i in range(whole, n):
        d = p[i] - was[i]
        moved[i - whole] = moved[i - whole] + d * d
        before[i - whole] = before[i - whole] + was[i] * was[i]
        gradient[i - whole] = gradient[i - whole] + g[i] * g[i]


cdef inline void add_sums(const real* lane, const real* p, real* was, const real* g, Py_ssize_t n,
                          double* squares) noexcept nogil:
    cdef double wide[LANES]
    cdef double sum
    cdef const real* x
    cdef Py_ssize_t i
    cdef int q
    for q in range(MOVED):
        for i in range(LANES):
            wide[i] = lane[q * LANES + i]
        sum = sum_lanes(wide)
        # Squares of single precision overflow early, and underflow: they are added again in double, unless what the n
        # of them lost is less than 2**-26 of all.
        if sizeof(real) == 4 and not n * 2.0**-100 <= sum < <double> infinity:
            x, sum = g if q == 0 else was, 0.0
            for i in range(n if q == 2 else 0):
                was[i] = p[i] - was[i]
            sum_squares(<void**> &x, 1, NULL, n, &sum)
        squares[q] += sum


cdef inline void watched_spans(const Work* a, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef real was[TILE]
    cdef real now[TILE]                  # what is stored in another type,
    cdef real read[TILE]                 # likewise
    cdef real lane[MOVED * LANES]
    cdef Work work = a[0]
    cdef Span tile
    cdef const real* p
    cdef const real* g
    cdef double* squares
    cdef Py_ssize_t k, n, at, end, entry
    work.spans, work.zero_grad = &tile, False            # only behind what is measured
    for k in range(first, last):
        entry, at, end, squares = a.spans[k].entry, a.spans[k].begin, a.spans[k].end, &a.squares[MOVED * k]
        squares[0] = squares[1] = squares[2] = 0.0
        while at < end:
            n = min(<Py_ssize_t> TILE, end - at)
            tile.entry, tile.begin, tile.end = entry, at, at + n
            memcpy(was, read_parameter(a, entry, at, n, now), n * sizeof(real))
            a.inner(&work, 0, 1)
            p, g = read_parameter(a, entry, at, n, now), read_gradient(a, entry, at, n, read)
            square_tile(p, was, g, n, lane, lane + LANES, lane + 2 * LANES)
            add_sums(lane, p, was, g, n, squares)
            if a.zero_grad:
                zero_gradient(a, entry, at, n)
            at += n
