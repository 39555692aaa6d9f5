# Adafactor.  Shazeer & Stern 2018.
#
# Nothing of a large matrix's size is written but the parameter: the first pass sums the gradient's squares by row and
# by column, the second the squares of the update, and the last computes the update again.

cdef struct Adafactor:
    real eps1                    # negative: the float type's own
    real weight                  # of the newest square

cdef struct AdafactorScalars:
    double newest                # the same weight, for rows and columns
    double least                 # eps1 again
    double relative              # eps2: the least size of a parameter
    double lr                    # min(lr, 1 / sqrt(t))
    double clip                  # d


cdef inline real not_below(real eps1) noexcept nogil:
    return epsilon if eps1 < <real> 0 else eps1


cdef inline void gradient_alone(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    y[0] = g


cdef inline void move_means(const double* sums, real_array moment, Py_ssize_t n, Py_ssize_t width,
                            real weight) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        moment[i] = towards(moment[i], <real> (sums[i] / width), weight)


cdef inline void inverse_roots(const_real_array moment, Py_ssize_t n, real_array out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = <real> 1 / sqrt(moment[i])


cdef inline void relative_inverse_roots(const_real_array moment, Py_ssize_t matrices, Py_ssize_t n, real least,
                                        real_array out) noexcept nogil:
    # of n moments for each matrix, over their mean
    cdef double mean
    cdef Py_ssize_t k, i
    if n == 1:
        for k in range(matrices):
            out[k] = <real> 1 / sqrt(moment[k] / maximum(moment[k], least))
        return
    for k in range(matrices):
        mean = 0.0
        for i in range(n):
            mean = mean + <double> moment[k * n + i]
        mean = mean / n
        for i in range(n):
            out[k * n + i] = maximum(<real> mean, least)
    for i in range(matrices * n):                # in a loop of its own, of all matrices: whole vectors of roots
        out[i] = <real> 1 / sqrt(moment[i] / out[i])


cdef void adafactor_lines(const double* c, const Entry* entry, const Lines* lines, Py_ssize_t first, Py_ssize_t last,
                          const double* row_sums, const double* column_sums, void* row_factors,
                          void* column_factors) noexcept nogil:
    # The first state has the means of rows, r, the second those of columns, c; in memory rows may lie as columns do.
    # The factors are 1 / sqrt(r / max(mean(r), eps1)) and 1 / sqrt(c).
    cdef const AdafactorScalars* h = <const AdafactorScalars*> c
    cdef Py_ssize_t n = lines.rows, m = lines.columns, matrices = last - first
    cdef real* r = (<real*> entry.state[1 if lines.flipped else 0]) + first * n
    cdef real* q = (<real*> entry.state[0 if lines.flipped else 1]) + first * m
    if row_sums != NULL:
        move_means(row_sums, r, matrices * n, m, <real> h.newest)
        move_means(column_sums, q, matrices * m, n, <real> h.newest)
    if row_factors == NULL:
        return
    if lines.flipped:
        inverse_roots(r, matrices * n, <real*> row_factors)
        relative_inverse_roots(q, matrices, m, not_below(<real> h.least), <real*> column_factors)
    else:
        relative_inverse_roots(r, matrices, n, not_below(<real> h.least), <real*> row_factors)
        inverse_roots(q, matrices * m, <real*> column_factors)


cdef inline real capped(real x, real cap) noexcept nogil:
    return cap if x > cap else x         # false for NaN, so NaN stays


cdef inline real adafactor(const void* hyper, real p, real g, real* s) noexcept nogil:
    # s[0]: the product of the factors of the element's row and column
    cdef const Adafactor* h = <const Adafactor*> hyper
    return g * capped(s[0], <real> 1 / not_below(h.eps1))


cdef inline void adafactor_sizes(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    y[0] = p
    y[1] = adafactor(hyper, p, g, s)


cdef inline real adafactor_vector(const void* hyper, real p, real g, real* s) noexcept nogil:
    # s[0]: the element's variance
    cdef const Adafactor* h = <const Adafactor*> hyper
    return g * capped(<real> 1 / sqrt(s[0]), <real> 1 / not_below(h.eps1))


cdef inline void adafactor_vector_sizes(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    cdef const Adafactor* h = <const Adafactor*> hyper
    s[0] = towards(s[0], g * g, h.weight)
    y[0] = p
    y[1] = adafactor_vector(hyper, p, g, s)


cdef bint adafactor_step(const double* c, const Sums* sums, double* state, Own* own) noexcept nogil:
    # max(eps2, rms(p)) * min(lr, 1 / sqrt(t)) / max(1, rms(update) / d), where a NaN is not the larger one
    cdef const AdafactorScalars* h = <const AdafactorScalars*> c
    cdef double size = double_sqrt(sums.of[0] / sums.count), excess = double_sqrt(sums.of[1] / sums.count) / h.clip
    own.scale = (size if size > h.relative else h.relative) * h.lr
    own.scale = own.against = own.scale / excess if excess > 1.0 else own.scale
    return True


cdef void run_gradient(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: measure(gradient_alone, 0, 1, w.tile)
cdef void run_adafactor_sizes(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    measure(adafactor_sizes, 1, 2, w.tile)
cdef void run_adafactor_vector_sizes(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    measure(adafactor_vector_sizes, 1, 2, w.tile)
cdef void run_adafactor(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: last_pass(adafactor, 1, w.tile)
cdef void run_adafactor_vector(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    last_pass(adafactor_vector, 1, w.tile)

cdef KernelRow* factored = bind("adafactor", run_adafactor, 0, "Adafactor", "AdafactorScalars")
measured_lines(factored, run_gradient, adafactor_lines, 2)
measured(factored, run_adafactor_sizes, TENSOR, adafactor_step, SQUARES, SQUARES)
measured(bind("adafactor_vector", run_adafactor_vector, 1, "Adafactor", "AdafactorScalars"),
         run_adafactor_vector_sizes, TENSOR, adafactor_step, SQUARES, SQUARES).moves = True
