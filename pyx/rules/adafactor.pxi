# Adafactor.  Shazeer & Stern 2018.
#
# Nothing of a matrix's size is written but the parameter: one pass sums the gradient's squares by row and by column,
# another the squares of the update, and the sweep computes the update again.

cdef struct Adafactor:
    real keep                    # 1 - lr * weight_decay
    real step_size               # relative to the parameter and clipped by the size of the update
    real cap                     # 1 / eps1

cdef struct AdafactorOfVector:
    real weight                  # of the newest square
    real keep
    real step_size
    real cap


cdef inline real least(real x, real cap) noexcept nogil:
    return cap if x > cap else x         # false for NaN, so NaN stays


cdef inline real later(real v, real weight, real g) noexcept nogil:
    return v + weight * (g * g - v)


cdef inline real update(real g, real row, real column, real cap) noexcept nogil:
    return g * least(row * column, cap)


cdef inline real update_of_vector(real g, real v, real cap) noexcept nogil:
    return g * least(<real> 1 / sqrt(v), cap)


cdef inline void adafactor_of_vector(const void* hyper, real* p, real g, real* s) noexcept nogil:
    cdef const AdafactorOfVector* h = <const AdafactorOfVector*> hyper
    s[0] = later(s[0], h.weight, g)
    p[0] = h.keep * p[0] - h.step_size * update_of_vector(g, s[0], h.cap)


cdef inline void along_row(const Adafactor* h, const Common* common, Py_ssize_t n, real_array p, const_real_array g,
                           real row, const_real_array columns) noexcept nogil:
    cdef real grad_scale = common.grad_scale, limit = common.limit
    cdef real keep = h.keep, step_size = h.step_size, cap = h.cap
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = keep * p[i] - step_size * update(finish(g[i], grad_scale, limit), row, columns[i], cap)


cdef void run_adafactor(const Work* w, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    # The states: a factor for each row, one for each column, and how many rows and columns each matrix has.  Gradients
    # that are to be zero are zeroed after the step, since it reads them more than once.
    cdef real hyper[HYPER]
    cdef const Row* row
    cdef Py_ssize_t k, at, end, i, j, n, m, stop
    memcpy(hyper, w.hyper, sizeof(hyper))
    for k in range(first, last):
        row = &w.rows[w.spans[k].row]
        n, m = (<const int64_t*> row.state[2])[0], (<const int64_t*> row.state[2])[1]
        at, end = w.spans[k].begin, w.spans[k].end
        i = at // m
        j = at - i * m
        while at < end:
            stop = min(end, at + m - j)
            along_row(<const Adafactor*> (<const char*> hyper + sizeof(Common)), <const Common*> hyper, stop - at,
                      (<real*> row.param) + at, (<const real*> row.grad) + at, (<const real*> row.state[0])[i],
                      (<const real*> row.state[1]) + i // n * m + j)
            at, i, j = stop, i + 1, 0


cdef void run_adafactor_of_vector(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    sweep(adafactor_of_vector, 1, w, i, j)


cdef Adafactor adafactor_fields
cdef AdafactorOfVector adafactor_of_vector_fields
bind("adafactor", run_adafactor, 3, adafactor_fields)
bind("adafactor_of_vector", run_adafactor_of_vector, 1, adafactor_of_vector_fields)


# Over tiles of a gradient: the coefficients are grad_scale, limit, and those that are named.

cdef void square_sums(const Tile* t, const double* c) noexcept nogil:
    # of each row, in lanes; of each column, from the first row on
    cdef real grad_scale = <real> c[0], limit = <real> c[1], x
    cdef double[LANES] lane
    cdef double_array column = t.columns
    cdef const_real_array g
    cdef Py_ssize_t i, k, whole = t.m - t.m % LANES
    cdef int j, lanes = LANES if t.m > 4 else 4      # the others of small matrices, such as convolutions', are 0
    memset(t.columns, 0, t.m * sizeof(double))
    for i in range(t.n):
        g = (<const real*> t.g) + i * t.stride
        for j in range(lanes):
            lane[j] = 0.0
        for k in range(t.m // LANES):
            for j in range(LANES):
                x = finish(g[k * LANES + j], grad_scale, limit)
                lane[j] = lane[j] + square(x, x)
                column[k * LANES + j] = column[k * LANES + j] + square(x, x)
        for k in range(whole, t.m):
            x = finish(g[k], grad_scale, limit)
            lane[k - whole] = lane[k - whole] + square(x, x)
            column[k] = column[k] + square(x, x)
        t.rows[i] = fold(lane) if t.m > 4 else (lane[0] + lane[2]) + (lane[1] + lane[3])


cdef void update_squares(const Tile* t, const double* c) noexcept nogil:
    # g * min(a b, cap), squared; c2: cap
    cdef real grad_scale = <real> c[0], limit = <real> c[1], cap = <real> c[2], row, u
    cdef double[LANES] lane
    cdef const_real_array g
    cdef const_real_array b = <const real*> t.b
    cdef Py_ssize_t i, k, whole = t.m - t.m % LANES
    cdef int j
    for j in range(LANES):
        lane[j] = t.lanes[j]
    for i in range(t.n):
        g = (<const real*> t.g) + i * t.stride
        row = (<const real*> t.a)[i]
        for k in range(t.m // LANES):
            for j in range(LANES):
                u = update(finish(g[k * LANES + j], grad_scale, limit), row, b[k * LANES + j], cap)
                lane[j] = lane[j] + square(u, u)
        for k in range(whole, t.m):
            u = update(finish(g[k], grad_scale, limit), row, b[k], cap)
            lane[k - whole] = lane[k - whole] + square(u, u)
    for j in range(LANES):
        t.lanes[j] = lane[j]


cdef void update_squares_of_vector(const Tile* t, const double* c) noexcept nogil:
    # g * min(1 / sqrt(later variance), cap), squared, of a matrix of one row whose variances are b; c2, c3: cap, weight
    cdef real grad_scale = <real> c[0], limit = <real> c[1], cap = <real> c[2], weight = <real> c[3], x, u
    cdef double[LANES] lane
    cdef const_real_array g = <const real*> t.g
    cdef const_real_array v = <const real*> t.b
    cdef Py_ssize_t k, whole = t.m - t.m % LANES
    cdef int j
    for j in range(LANES):
        lane[j] = t.lanes[j]
    for k in range(t.m // LANES):
        for j in range(LANES):
            x = finish(g[k * LANES + j], grad_scale, limit)
            u = update_of_vector(x, later(v[k * LANES + j], weight, x), cap)
            lane[j] = lane[j] + square(u, u)
    for k in range(whole, t.m):
        x = finish(g[k], grad_scale, limit)
        u = update_of_vector(x, later(v[k], weight, x), cap)
        lane[k - whole] = lane[k - whole] + square(u, u)
    for j in range(LANES):
        t.lanes[j] = lane[j]


cdef void bind_reading(str name, ReadTile run):
    READINGS[name] = PyCapsule_New(<void*> run, "optimlite.reading", NULL), sizeof(real)


bind_reading("square_sums", square_sums)
bind_reading("update_squares", update_squares)
bind_reading("update_squares_of_vector", update_squares_of_vector)
