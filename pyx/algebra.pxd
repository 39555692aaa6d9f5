# Vector algebra over one block of elements: each kernel reads its vectors once and leaves its sums in double.
#
# A kernel gets the addresses of its vectors in the block (outputs first), coefficients, and the place for its results:
# sums, then maxima.  It works tile by tile, so that what one loop wrote is still in the cache for the next.

from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcpy

from .lanes cimport largest_magnitude, product, square, sum_lanes, total
from .real cimport (bits_of_single, const_real_array, larger, maximum, minimum, prefetch, real, real_array,
                    widened)
from .table cimport LANES, TILE


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
    void lanes_of_rows(const real* x, const real* y, const double* a, const double* b, Py_ssize_t rows,
                       const real** next, double* lanes) noexcept


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


cdef inline void add_row_products(const real* first, const real* second, const double* a, const double* b,
                                  const real** next, Py_ssize_t m, Py_ssize_t rows, double* out) noexcept nogil:
    # out += first.a, first.b and, of two rows, second.a, second.b
    cdef double[4 * LANES] lanes
    cdef Py_ssize_t i, whole = m - m % LANES
    lanes_of_rows(first, second, a, b, m // LANES, next, lanes)
    for i in range(whole, m):
        lanes[i - whole] += (<double> first[i]) * a[i]
        lanes[LANES + i - whole] += (<double> first[i]) * b[i]
        lanes[2 * LANES + i - whole] += (<double> second[i]) * a[i]
        lanes[3 * LANES + i - whole] += (<double> second[i]) * b[i]
    for i in range(2 * rows):
        out[i] += sum_lanes(lanes + i * LANES)


cdef inline void gram_of_tile(const real* x, const real* y, void** rows, Py_ssize_t count, Py_ssize_t at, Py_ssize_t m,
                              double* out) noexcept nogil:
    # out += row.x, row.y for every row, over the tile at `at`, where x and y stand already
    #
    # A tile is a page of each row, and the processor's own prefetching ends with the page.  The next one is fetched
    # here, of four rows together while these four are read: a half of it during two of them.
    cdef double[TILE] a
    cdef double[TILE] b
    cdef (const real*)[4] next
    cdef Py_ssize_t i, k, q
    cdef const real* first
    cdef const real* second
    for i in range(m):
        a[i] = <double> x[i]
        b[i] = <double> y[i]
    for k in range(0, count, 2):
        q = k % 4
        for i in range(4):
            next[i] = (<const real*> rows[min(k - q + i, count - 1)]) + at + TILE + q * (TILE // 4)
        first = (<const real*> rows[k]) + at
        second = (<const real*> rows[min(k + 1, count - 1)]) + at
        add_row_products(first, second, a, b, next, m, min(<Py_ssize_t> 2, count - k), out + 2 * k)


cdef inline void gram(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # row.a, row.b for every row: v = a, b, rows...
    cdef Py_ssize_t tile, at
    for tile in range((n + TILE - 1) // TILE):
        at = tile * TILE
        gram_of_tile((<const real*> v[0]) + at, (<const real*> v[1]) + at, v + 2, count - 2, at,
                     min(<Py_ssize_t> TILE, n - at), out)


cdef inline void subtract(real* y, const real* g, const real* h, const real* s, bint rest,
                          Py_ssize_t m) noexcept nogil:
    # y = g - h; if `rest`, 0 where s = 0: a variable that rests at its bound
    cdef Py_ssize_t i
    for i in range(m):
        y[i] = <real> 0 if rest and s[i] == <real> 0 else g[i] - h[i]


cdef inline void renew(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # s = c0 * d (which may be s), y = g - h;  y.y, s.y, s.s, and row.a, row.y for every row:
    # v = s, y, d, g, h, a, rows...  c1: `rest` of `subtract`.
    cdef real* s
    cdef real* y
    cdef const real* d
    cdef const real* g
    cdef const real* h
    cdef real t = <real> c[0]
    cdef bint rest = c[1] != 0.0, known = v[0] == v[2]
    cdef Py_ssize_t tile, at, i, m
    for tile in range((n + TILE - 1) // TILE):
        at = tile * TILE
        m = min(<Py_ssize_t> TILE, n - at)
        s, y, d = (<real*> v[0]) + at, (<real*> v[1]) + at, (<const real*> v[2]) + at
        g, h = (<const real*> v[3]) + at, (<const real*> v[4]) + at
        if not known:
            for i in range(m):
                s[i] = t * d[i]
        subtract(y, g, h, s, rest, m)
        two_products(y, s, m, out)
        out[2] += total(square, s, s, m)
        gram_of_tile((<const real*> v[5]) + at, y, v + 6, count - 6, at, m, out + 3)


cdef inline void add_one(real* acc, const real* a, real x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        acc[i] = acc[i] + x * a[i]


cdef inline void add_four(real* acc, const real* a, const real* b, const real* c, const real* d, const double* x,
                          Py_ssize_t n, Py_ssize_t ahead) noexcept nogil:
    cdef real x0 = <real> x[0], x1 = <real> x[1], x2 = <real> x[2], x3 = <real> x[3]
    cdef Py_ssize_t i, at
    for at in range(0, n, 64):
        for i in range(at, min(at + 64, n), 16):
            prefetch(a + i + ahead)
            prefetch(b + i + ahead)
            prefetch(c + i + ahead)
            prefetch(d + i + ahead)
        for i in range(at, min(at + 64, n)):
            acc[i] = (((acc[i] + x0 * a[i]) + x1 * b[i]) + x2 * c[i]) + x3 * d[i]


cdef inline void combine(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # d = c0 * g + c1 * row1 + ...;  g.d; max |d|.  d may be one of the rows.
    cdef real acc[TILE]
    cdef real* d
    cdef const real* g
    cdef real c0 = <real> c[0]
    cdef Py_ssize_t tile, at, i, k, m
    for tile in range((n + TILE - 1) // TILE):
        at = tile * TILE
        m = min(<Py_ssize_t> TILE, n - at)
        d, g = (<real*> v[0]) + at, (<const real*> v[1]) + at
        for i in range(m):
            acc[i] = c0 * g[i]
        k = 2
        while k + 4 <= count:
            add_four(acc, (<const real*> v[k]) + at, (<const real*> v[k + 1]) + at, (<const real*> v[k + 2]) + at,
                     (<const real*> v[k + 3]) + at, c + k - 1, m, TILE if at + TILE < n else 0)
            k += 4
        while k < count:
            add_one(acc, (<const real*> v[k]) + at, <real> c[k - 1], m)
            k += 1
        for i in range(m):
            d[i] = acc[i]
        out[0] += total(product, g, d, m)
        out[1] = larger(out[1], largest_magnitude(d, m))


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


cdef inline void gram_of_halves(const real* x, const real* y, void** rows, Py_ssize_t count, Py_ssize_t at,
                                Py_ssize_t m, double* out) noexcept nogil:
    # `gram_of_tile` over rows of 16 bits
    cdef double[TILE] a
    cdef double[TILE] b
    cdef real[TILE] first
    cdef real[TILE] second
    cdef (const real*)[4] next
    cdef Py_ssize_t i, k
    for i in range(m):
        a[i] = <double> x[i]
        b[i] = <double> y[i]
    for k in range(0, count, 2):
        widen(first, (<const uint16_t*> rows[k]) + at, m)
        widen(second, (<const uint16_t*> rows[min(k + 1, count - 1)]) + at, m)
        for i in range(4):               # the same tile of the next rows
            next[i] = <const real*> ((<const uint16_t*> rows[min(k + 2 + (i & 1), count - 1)]) + at
                                     + (i >> 1) * (TILE // 2))
        add_row_products(first, second, a, b, next, m, min(<Py_ssize_t> 2, count - k), out + 2 * k)


cdef inline void gram_halves(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    cdef Py_ssize_t tile, at
    for tile in range((n + TILE - 1) // TILE):
        at = tile * TILE
        gram_of_halves((<const real*> v[0]) + at, (<const real*> v[1]) + at, v + 2, count - 2, at,
                       min(<Py_ssize_t> TILE, n - at), out)


cdef inline void renew_halves(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # `renew`, with s, y and rows of 16 bits
    cdef real[TILE] s
    cdef real[TILE] y
    cdef const real* d
    cdef const real* g
    cdef const real* h
    cdef real t = <real> c[0]
    cdef bint rest = c[1] != 0.0
    cdef Py_ssize_t tile, at, i, m
    for tile in range((n + TILE - 1) // TILE):
        at = tile * TILE
        m = min(<Py_ssize_t> TILE, n - at)
        d, g, h = (<const real*> v[2]) + at, (<const real*> v[3]) + at, (<const real*> v[4]) + at
        for i in range(m):
            s[i] = t * d[i]
        narrow((<uint16_t*> v[0]) + at, s, m)
        subtract(y, g, h, s, rest, m)
        narrow((<uint16_t*> v[1]) + at, y, m)
        two_products(y, s, m, out)
        out[2] += total(square, s, s, m)
        gram_of_halves((<const real*> v[5]) + at, y, v + 6, count - 6, at, m, out + 3)


cdef inline void add_halves(real* to, const uint16_t* a, const uint16_t* b, const double* x,
                            Py_ssize_t n) noexcept nogil:
    cdef real_array acc = to
    cdef real x0 = <real> x[0], x1 = <real> x[1]
    cdef Py_ssize_t i
    for i in range(n):
        acc[i] = (acc[i] + x0 * widened(a[i])) + x1 * widened(b[i])


cdef inline void combine_halves(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # `combine` with rows of 16 bits
    cdef real acc[TILE]
    cdef double two[2]
    cdef real* d
    cdef const real* g
    cdef real c0 = <real> c[0]
    cdef Py_ssize_t tile, at, i, k, m
    for tile in range((n + TILE - 1) // TILE):
        at = tile * TILE
        m = min(<Py_ssize_t> TILE, n - at)
        d, g = (<real*> v[0]) + at, (<const real*> v[1]) + at
        for i in range(m):
            acc[i] = c0 * g[i]
        for k in range(2, count, 2):
            two[0], two[1] = c[k - 1], c[k] if k + 1 < count else 0.0
            add_halves(acc, (<const uint16_t*> v[k]) + at, (<const uint16_t*> v[min(k + 1, count - 1)]) + at, two, m)
        for i in range(m):
            d[i] = acc[i]
        out[0] += total(product, g, d, m)
        out[1] = larger(out[1], largest_magnitude(d, m))


cdef inline void widen_all(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # x = a row of 16 bits
    widen(<real*> v[0], <const uint16_t*> v[1], n)
