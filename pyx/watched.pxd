# A step that is watched, for any rule: the squares of what parameters were, of what they have moved by and of their
# gradients, summed around the sweep, a strip at a time, while these are in the first-level cache.

from libc.stdint cimport uint16_t
from libc.string cimport memcpy, memset

from .lanes cimport sum_lanes
from .passes cimport format_of_gradient, last_spans, rest_at, zero_gradient
from .real cimport const_real_array, infinity, real
from .reductions cimport sum_squares
from .table cimport LANES, MOVED, TILE, Beside, Format, Span, Sweep, Work

cdef enum:
    STRIP = 512                  # elements of a large tensor: the memory goes on while sums of so few are made


cdef inline const real* parameter_at(const Work* a, Py_ssize_t entry, Py_ssize_t at, Py_ssize_t n,
                                     real* room) noexcept nogil:
    cdef const Beside* beside = &a.beside[entry] if entry < a.n_beside else NULL
    if beside == NULL or beside.parameter == NULL:
        return (<const real*> a.entries[entry].param) + at
    beside.parameter.decode(<const uint16_t*> a.entries[entry].param + at, rest_at(beside, at), room, n)
    return room


cdef inline const real* gradient_at(const Work* a, Py_ssize_t entry, Py_ssize_t at, Py_ssize_t n,
                                    real* room) noexcept nogil:
    cdef const Format* format = format_of_gradient(a, entry)
    if format == NULL:
        return (<const real*> a.entries[entry].grad) + at
    format.decode(<const char*> a.entries[entry].grad + at * format.bytes, NULL, room, n)
    return room


cdef inline void add_squares(const_real_array p, const_real_array was, const_real_array g, Py_ssize_t n,
                             real* lane) noexcept nogil:
    # in lanes of the float type, which take a third of the time of doubles
    cdef real gradient[LANES]
    cdef real before[LANES]
    cdef real moved[LANES]
    cdef real d
    cdef Py_ssize_t i, whole = n - n % LANES
    cdef int j
    for j in range(LANES):
        gradient[j], before[j], moved[j] = lane[j], lane[LANES + j], lane[2 * LANES + j]
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
    for j in range(LANES):
        lane[j], lane[LANES + j], lane[2 * LANES + j] = gradient[j], before[j], moved[j]


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


cdef inline void watch_tile(Work* a, Span* strip, Py_ssize_t n, Py_ssize_t most, double* squares) noexcept nogil:
    cdef real was[TILE]
    cdef real now[TILE]                  # what is stored in another type,
    cdef real read[TILE]                 # likewise
    cdef real lane[MOVED * LANES]
    cdef const real* p = NULL
    cdef const real* g = NULL
    cdef Py_ssize_t i = 0, m, entry = strip.entry, begin = strip.begin, end = strip.begin + n
    memset(lane, 0, sizeof(lane))
    while strip.begin < end:
        i, m = strip.begin - begin, min(most, end - strip.begin)
        strip.end = strip.begin + m
        memcpy(was + i, parameter_at(a, entry, strip.begin, m, now), m * sizeof(real))
        a.inner(a, 0, 1)
        p, g = parameter_at(a, entry, strip.begin, m, now), gradient_at(a, entry, strip.begin, m, read)
        add_squares(p, was + i, g, m, lane)
        strip.begin = strip.end
    p, g = p - i, g - i                  # where a tile is of several strips, nothing is stored in another type
    add_sums(lane, p, was, g, n, squares)


cdef inline void watched_spans(const Work* a, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef Work work = a[0]
    cdef Span strip
    cdef double* squares
    cdef Py_ssize_t k, begin, end, n, most
    work.spans, work.zero_grad = &strip, False           # only behind what is measured
    for k in range(first, last):
        strip, squares = a.spans[k], &a.squares[MOVED * k]
        end = strip.end
        most = STRIP if end - strip.begin > TILE and a.inner != <Sweep> last_spans else TILE
        squares[0] = squares[1] = squares[2] = 0.0
        while strip.begin < end:
            begin, n = strip.begin, min(<Py_ssize_t> TILE, end - strip.begin)
            watch_tile(&work, &strip, n, most, squares)
            if a.zero_grad:
                zero_gradient(a, strip.entry, begin, n)
