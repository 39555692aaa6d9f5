# Vector algebra over one block of elements: each kernel reads its vectors once and leaves its sums in double.
#
# A kernel gets the addresses of its vectors in the block (outputs first), coefficients, and the place for its results:
# sums, then maxima.  It works tile by tile, so that what one loop wrote is still in the cache for the next.

from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcpy, memset

from .lanes cimport largest_magnitude, product, square, sum_lanes, total
from .real cimport bits_of_single, const_real_array, larger, maximum, minimum, real, real_array, widened
from .table cimport LANES, TILE

cdef enum:
    # Passes over a history read so many elements of four rows, then of the next four: prefetching follows few streams
    # at a time, and only where they are long.
    STRETCH = 4096
    STRIP = 256                  # of these, how many are widened at a time
    AHEAD = 1024                 # bytes from what is read to what is fetched


cdef inline void observe(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # g = c0 * u;  g.d; max |g|
    cdef real* g
    cdef const real* u
    cdef const real* d
    cdef real scale = <real> c[0]
    cdef Py_ssize_t tile, at, i, m
    for tile in range((n + TILE - 1) // TILE):
        at = tile * TILE
        m = min(<Py_ssize_t> TILE, n - at)
        g, u, d = (<real*> v[0]) + at, (<const real*> v[1]) + at, (<const real*> v[2]) + at
        for i in range(m):
            g[i] = scale * u[i]
        out[0] += total(product, g, d, m)
        out[1] = larger(out[1], largest_magnitude(g, m))


cdef extern from "products.h" nogil:
    void lanes_of_two(const real* x, const real* a, Py_ssize_t rows, double* lanes) noexcept
    void lanes_of_three(const real* x, const real* a, const real* b, Py_ssize_t rows, double* lanes) noexcept
    void lanes_of_rows(const real** x, const real* a, const real* b, Py_ssize_t n, const char** next, Py_ssize_t size,
                       double* lanes) noexcept


cdef inline void two_products(const real* x, const real* a, Py_ssize_t n, double* out) noexcept nogil:
    # out += x.x, x.a
    cdef double lanes[2 * LANES]
    cdef Py_ssize_t i, whole = n - n % LANES
    lanes_of_two(x, a, n // LANES, lanes)
    for i in range(whole, n):
        lanes[i - whole] += product(x[i], x[i])
        lanes[LANES + i - whole] += product(x[i], a[i])
    out[0] += sum_lanes(lanes)
    out[1] += sum_lanes(lanes + LANES)


cdef inline void three_products(const real* x, const real* a, const real* b, Py_ssize_t n, double* out) noexcept nogil:
    # out += x.x, x.a, x.b
    cdef double lanes[3 * LANES]
    cdef Py_ssize_t i, whole = n - n % LANES
    lanes_of_three(x, a, b, n // LANES, lanes)
    for i in range(whole, n):
        lanes[i - whole] += product(x[i], x[i])
        lanes[LANES + i - whole] += product(x[i], a[i])
        lanes[2 * LANES + i - whole] += product(x[i], b[i])
    out[0] += sum_lanes(lanes)
    out[1] += sum_lanes(lanes + LANES)
    out[2] += sum_lanes(lanes + 2 * LANES)


cdef inline void compare(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # g = c0 * u;  g.g, g.d, g.h; max |g|:  all that conjugate gradients ask of a new gradient, h being the one before
    cdef real_array g
    cdef const_real_array u
    cdef const real* d
    cdef const real* h
    cdef real scale = <real> c[0]
    cdef Py_ssize_t tile, at, i, m
    for tile in range((n + TILE - 1) // TILE):
        at = tile * TILE
        m = min(<Py_ssize_t> TILE, n - at)
        g, u = (<real*> v[0]) + at, (<const real*> v[1]) + at
        d, h = (<const real*> v[2]) + at, (<const real*> v[3]) + at
        for i in range(m):
            g[i] = scale * u[i]
        three_products(g, d, h, m, out)
        out[3] = larger(out[3], largest_magnitude(g, m))


cdef inline void copy(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    memcpy(v[0], v[1], n * sizeof(real))


cdef inline void move(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # p = x + c0 * d
    cdef real_array p = <real*> v[0]
    cdef const_real_array x = <const real*> v[1]
    cdef const_real_array d = <const real*> v[2]
    cdef real t = <real> c[0]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = x[i] + t * d[i]


cdef inline void depart(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # x = p, p = x + c0 * d:  `copy` and `move` in one pass
    cdef real_array p = <real*> v[0]
    cdef real_array x = <real*> v[1]
    cdef const_real_array d = <const real*> v[2]
    cdef real t = <real> c[0]
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = p[i]
        p[i] = p[i] + t * d[i]


cdef inline void launch(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # d = c0 * d - g, x = p, p = x + c1 * d;  d.d, g.d; max |d|:  a conjugate direction and the first trial along it
    cdef real_array d
    cdef real_array x
    cdef real_array p
    cdef const_real_array g
    cdef real beta = <real> c[0], t = <real> c[1], value
    cdef Py_ssize_t tile, at, i, m
    for tile in range((n + TILE - 1) // TILE):
        at = tile * TILE
        m = min(<Py_ssize_t> TILE, n - at)
        p, x, d = (<real*> v[0]) + at, (<real*> v[1]) + at, (<real*> v[2]) + at
        g = (<const real*> v[3]) + at
        if beta == <real> 0:                     # d may be anything at a restart
            for i in range(m):
                d[i] = -g[i]
        else:
            for i in range(m):
                d[i] = beta * d[i] - g[i]
        for i in range(m):
            value = p[i]
            x[i] = value
            p[i] = value + t * d[i]
        two_products(d, g, m, out)
        out[2] = larger(out[2], largest_magnitude(d, m))


cdef inline void move_within(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # p = x + c0 * d, projected onto [low, high]
    cdef real_array p = <real*> v[0]
    cdef const_real_array x = <const real*> v[1]
    cdef const_real_array d = <const real*> v[2]
    cdef const_real_array low = <const real*> v[3]
    cdef const_real_array high = <const real*> v[4]
    cdef real t = <real> c[0], value
    cdef Py_ssize_t i
    for i in range(n):
        value = x[i] + t * d[i]
        value = low[i] if value < low[i] else value
        p[i] = high[i] if value > high[i] else value


cdef inline void slope_within(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # g.d over the elements that still move at p: the others have run into their bound
    cdef real masked[TILE]
    cdef const real* g
    cdef const real* d
    cdef const real* p
    cdef const real* low
    cdef const real* high
    cdef Py_ssize_t tile, at, i, m
    for tile in range((n + TILE - 1) // TILE):
        at = tile * TILE
        m = min(<Py_ssize_t> TILE, n - at)
        g, d, p = (<const real*> v[0]) + at, (<const real*> v[1]) + at, (<const real*> v[2]) + at
        low, high = (<const real*> v[3]) + at, (<const real*> v[4]) + at
        for i in range(m):
            masked[i] = <real> 0 if (d[i] < <real> 0 and p[i] <= low[i]) or (d[i] > <real> 0 and p[i] >= high[i]) \
                else d[i]
        out[0] += total(product, g, masked, m)


cdef inline void free_gradient(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # f = g, but 0 where a bound stops the descent;  max |P(x - g) - x|
    cdef real projected[TILE]
    cdef real* f
    cdef const real* g
    cdef const real* x
    cdef const real* low
    cdef const real* high
    cdef real value
    cdef Py_ssize_t tile, at, i, m
    for tile in range((n + TILE - 1) // TILE):
        at = tile * TILE
        m = min(<Py_ssize_t> TILE, n - at)
        f, g, x = (<real*> v[0]) + at, (<const real*> v[1]) + at, (<const real*> v[2]) + at
        low, high = (<const real*> v[3]) + at, (<const real*> v[4]) + at
        for i in range(m):
            value = g[i]
            f[i] = <real> 0 if (value > <real> 0 and x[i] <= low[i]) or (value < <real> 0 and x[i] >= high[i]) \
                else value
            value = minimum(maximum(value, x[i] - high[i]), x[i] - low[i])
            projected[i] = value
        out[0] = larger(out[0], largest_magnitude(projected, m))


cdef inline void turn_inward(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # d = 0 where it leaves the box at once, or where a bound stops the descent;  g.d; max |d|
    cdef real* d
    cdef const real* g
    cdef const real* x
    cdef const real* low
    cdef const real* high
    cdef Py_ssize_t tile, at, i, m
    for tile in range((n + TILE - 1) // TILE):
        at = tile * TILE
        m = min(<Py_ssize_t> TILE, n - at)
        d, g, x = (<real*> v[0]) + at, (<const real*> v[1]) + at, (<const real*> v[2]) + at
        low, high = (<const real*> v[3]) + at, (<const real*> v[4]) + at
        for i in range(m):
            d[i] = <real> 0 if (x[i] <= low[i] and (g[i] > <real> 0 or d[i] < <real> 0)) or (
                x[i] >= high[i] and (g[i] < <real> 0 or d[i] > <real> 0)) else d[i]
        out[0] += total(product, g, d, m)
        out[1] = larger(out[1], largest_magnitude(d, m))


cdef inline void add_lanes(const double* lanes, Py_ssize_t rows, double* out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(2 * rows):
        out[i] += (lanes[4 * i] + lanes[4 * i + 2]) + (lanes[4 * i + 1] + lanes[4 * i + 3])


cdef inline void gram_of_stretch(const real* a, const real* b, void** rows, Py_ssize_t count, Py_ssize_t at,
                                 Py_ssize_t m, double* out) noexcept nogil:
    # out += row.a, row.b for every row, over the stretch at `at`, where a and b stand already
    cdef double lanes[32]
    cdef const real* x[4]
    cdef const char* next[4]
    cdef Py_ssize_t i, k
    for k in range(0, count, 4):
        for i in range(4):
            x[i] = (<const real*> rows[min(k + i, count - 1)]) + at
            next[i] = (<const char*> x[i]) + AHEAD
        memset(lanes, 0, sizeof(lanes))
        lanes_of_rows(x, a, b, m, next, sizeof(real), lanes)
        add_lanes(lanes, min(<Py_ssize_t> 4, count - k), out + 2 * k)


cdef inline void subtract(real* y, const real* g, const real* h, const real* s, bint rest,
                          Py_ssize_t m) noexcept nogil:
    # y = g - h; if `rest`, 0 where s = 0: a variable that rests at its bound
    cdef Py_ssize_t i
    for i in range(m):
        y[i] = <real> 0 if rest and s[i] == <real> 0 else g[i] - h[i]


cdef inline void renew(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # s = c0 * d (which may be s), y = g - h;  s.s, and row.a, row.y for every row:
    # v = s, y, d, g, h, a, rows...  c1: `rest` of `subtract`.
    cdef real* s
    cdef real* y
    cdef const real* d
    cdef const real* g
    cdef const real* h
    cdef real t = <real> c[0]
    cdef bint rest = c[1] != 0.0, known = v[0] == v[2]
    cdef Py_ssize_t stretch, at, i, m
    for stretch in range((n + STRETCH - 1) // STRETCH):
        at = stretch * STRETCH
        m = min(<Py_ssize_t> STRETCH, n - at)
        s, y, d = (<real*> v[0]) + at, (<real*> v[1]) + at, (<const real*> v[2]) + at
        g, h = (<const real*> v[3]) + at, (<const real*> v[4]) + at
        if not known:
            for i in range(m):
                s[i] = t * d[i]
        subtract(y, g, h, s, rest, m)
        out[0] += total(square, s, s, m)
        gram_of_stretch((<const real*> v[5]) + at, y, v + 6, count - 6, at, m, out + 1)


cdef inline void add_row(real* to, const real* a, real x, Py_ssize_t n) noexcept nogil:
    cdef real_array acc = to
    cdef Py_ssize_t i
    for i in range(n):
        acc[i] = acc[i] + x * a[i]


cdef inline void add_rows(real* to, void** rows, const double* x, Py_ssize_t at, Py_ssize_t n) noexcept nogil:
    # acc += x0 * row0 + ..., four rows
    cdef real_array acc = to
    cdef const real* a = (<const real*> rows[0]) + at
    cdef const real* b = (<const real*> rows[1]) + at
    cdef const real* c = (<const real*> rows[2]) + at
    cdef const real* d = (<const real*> rows[3]) + at
    cdef real x0 = <real> x[0], x1 = <real> x[1], x2 = <real> x[2], x3 = <real> x[3]
    cdef Py_ssize_t i
    for i in range(n):
        acc[i] = (((acc[i] + x0 * a[i]) + x1 * b[i]) + x2 * c[i]) + x3 * d[i]


# A history of 16 bits: the upper half of a float32, to nearest.  Rows are widened tile by tile, while they are in the
# cache; each pair is used as it is stored, so that its products fit each other.

cdef inline void widen(real* out, const uint16_t* stored, Py_ssize_t n) noexcept nogil:
    cdef real_array to = out
    cdef Py_ssize_t i
    for i in range(n):
        to[i] = widened(stored[i])


cdef inline void narrow(uint16_t* stored, real* x, Py_ssize_t n) noexcept nogil:
    # rounds x, too
    cdef uint32_t bits
    cdef Py_ssize_t i
    for i in range(n):
        bits = bits_of_single(<float> x[i])
        bits = bits + 0x7fff + ((bits >> 16) & 1)
        stored[i] = <uint16_t> (bits >> 16)
        x[i] = widened(stored[i])


cdef inline void gram_of_halves(const real* a, const real* b, void** rows, Py_ssize_t count, Py_ssize_t at,
                                Py_ssize_t m, double* out) noexcept nogil:
    # `gram_of_stretch` over rows of 16 bits
    cdef double lanes[32]
    cdef real room[4][STRIP]
    cdef const real* x[4]
    cdef const uint16_t* row
    cdef const char* next[4]
    cdef Py_ssize_t strip, begin, i, k, n
    for i in range(4):
        x[i] = &room[i][0]
    for k in range(0, count, 4):
        memset(lanes, 0, sizeof(lanes))
        for strip in range((m + STRIP - 1) // STRIP):
            begin = strip * STRIP
            n = min(<Py_ssize_t> STRIP, m - begin)
            for i in range(4):
                row = (<const uint16_t*> rows[min(k + i, count - 1)]) + at + begin
                widen(room[i], row, n)
                next[i] = (<const char*> row) + AHEAD
            lanes_of_rows(x, a + begin, b + begin, n, next, sizeof(uint16_t), lanes)
        add_lanes(lanes, min(<Py_ssize_t> 4, count - k), out + 2 * k)


cdef inline void gram_over(void** v, Py_ssize_t count, Py_ssize_t n, double* out, bint halves) noexcept nogil:
    # row.a, row.b for every row: v = a, b, rows...
    cdef Py_ssize_t stretch, at, m
    cdef const real* a
    cdef const real* b
    for stretch in range((n + STRETCH - 1) // STRETCH):
        at = stretch * STRETCH
        m = min(<Py_ssize_t> STRETCH, n - at)
        a, b = (<const real*> v[0]) + at, (<const real*> v[1]) + at
        if halves:
            gram_of_halves(a, b, v + 2, count - 2, at, m, out)
        else:
            gram_of_stretch(a, b, v + 2, count - 2, at, m, out)


cdef inline void gram(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    gram_over(v, count, n, out, False)


cdef inline void gram_halves(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    gram_over(v, count, n, out, True)


cdef inline void renew_halves(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # `renew`, with s, y and rows of 16 bits
    cdef real[STRETCH] s
    cdef real[STRETCH] y
    cdef const real* d
    cdef const real* g
    cdef const real* h
    cdef real t = <real> c[0]
    cdef bint rest = c[1] != 0.0
    cdef Py_ssize_t stretch, at, i, m
    for stretch in range((n + STRETCH - 1) // STRETCH):
        at = stretch * STRETCH
        m = min(<Py_ssize_t> STRETCH, n - at)
        d, g, h = (<const real*> v[2]) + at, (<const real*> v[3]) + at, (<const real*> v[4]) + at
        for i in range(m):
            s[i] = t * d[i]
        narrow((<uint16_t*> v[0]) + at, s, m)
        subtract(y, g, h, s, rest, m)
        narrow((<uint16_t*> v[1]) + at, y, m)
        out[0] += total(square, s, s, m, streamed=False)
        gram_of_halves((<const real*> v[5]) + at, y, v + 6, count - 6, at, m, out + 1)


cdef inline void add_halves(real* to, void** rows, const double* x, Py_ssize_t at, Py_ssize_t n) noexcept nogil:
    # `add_rows` of 16 bits
    cdef real_array acc = to
    cdef const uint16_t* a = (<const uint16_t*> rows[0]) + at
    cdef const uint16_t* b = (<const uint16_t*> rows[1]) + at
    cdef const uint16_t* c = (<const uint16_t*> rows[2]) + at
    cdef const uint16_t* d = (<const uint16_t*> rows[3]) + at
    cdef real x0 = <real> x[0], x1 = <real> x[1], x2 = <real> x[2], x3 = <real> x[3]
    cdef Py_ssize_t i
    for i in range(n):
        acc[i] = (((acc[i] + x0 * widened(a[i])) + x1 * widened(b[i])) + x2 * widened(c[i])) + x3 * widened(d[i])


cdef inline void combine_over(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out,
                              bint halves) noexcept nogil:
    # d = c0 * g + c1 * row1 + ...;  g.d; max |d|.  d may be one of the rows, or g.
    cdef real acc[STRETCH]
    cdef real room[STRETCH]
    cdef real c0 = <real> c[0]
    cdef const real* g
    cdef const real* row
    cdef Py_ssize_t stretch, at, i, k, m
    for stretch in range((n + STRETCH - 1) // STRETCH):
        at = stretch * STRETCH
        m = min(<Py_ssize_t> STRETCH, n - at)
        g = (<const real*> v[1]) + at
        for i in range(m):
            acc[i] = c0 * g[i]
        for k in range(2, count - 3, 4):
            if halves:
                add_halves(acc, v + k, c + k - 1, at, m)
            else:
                add_rows(acc, v + k, c + k - 1, at, m)
        for k in range(count - (count - 2) % 4, count):
            row = (<const real*> v[k]) + at
            if halves:
                widen(room, (<const uint16_t*> v[k]) + at, m)
                row = room
            add_row(acc, row, <real> c[k - 1], m)
        out[0] += total(product, g, acc, m, streamed=False)
        out[1] = larger(out[1], largest_magnitude(acc, m))
        memcpy((<real*> v[0]) + at, acc, m * sizeof(real))


cdef inline void combine(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    combine_over(v, count, c, n, out, False)


cdef inline void combine_halves(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    combine_over(v, count, c, n, out, True)


cdef inline void widen_all(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # x = a row of 16 bits
    widen(<real*> v[0], <const uint16_t*> v[1], n)
