# AdamP: where a weight's scale has no effect, the update loses what would only change the scale.  Heo et al. 2021.

cdef struct AdamP:
    real along                   # what a row's update takes of the row itself, its own; 0: it isn't projected
    real beta1
    real fresh1                  # 1 - beta1
    real beta2
    real fresh2
    real step_grad               # of lr / (1 - beta1^t): the gradient's share, with Nesterov's momentum
    real step_mean               # and the momentum's
    real inv_root_bias2          # 1 / sqrt(1 - beta2^t)
    real eps

cdef struct AdamPScalars:
    double delta
    double least                 # eps again
    double keep_projected        # keeps more than what isn't


cdef inline real adamp_step(const AdamP* h, real g, const real* s) noexcept nogil:
    return decayed(h.step_mean * s[0], h.step_grad, g) / (sqrt(s[1]) * h.inv_root_bias2 + h.eps)


cdef inline void adamp_moments(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    # for the sums of update * p, p * g, g^2, p^2
    cdef const AdamP* h = <const AdamP*> hyper
    s[0] = h.beta1 * s[0] + h.fresh1 * g
    s[1] = h.beta2 * s[1] + h.fresh2 * (g * g)
    y[0], y[1], y[2], y[3] = adamp_step(h, g, s), p, g, p


cdef inline double cosine(const double* sums, double least) noexcept nogil:
    # of the angle between p and g, without its sign; NaN where a norm is 0 and `least`, too
    cdef double product = sums[1]
    return (product if product > 0.0 else -product) / (larger(least, double_sqrt(sums[2]))
                                                       * larger(least, double_sqrt(sums[3])))


cdef inline double share_along(const double* sums, double least) noexcept nogil:
    cdef double norm = double_sqrt(sums[3]) + least
    return -(sums[0] / (norm * norm))


cdef void adamp_projection(const void* hyper, const double* c, const double* sums, Py_ssize_t rows,
                           const Entry* entries, Own* own) noexcept nogil:
    # Row by row, if every row is nearly at right angles to its gradient; else as a whole, if that is.
    cdef const AdamPScalars* h = <const AdamPScalars*> c
    cdef double whole[NUMBERS]
    cdef double largest = 0.0, length = <double> entries.size
    cdef Py_ssize_t r
    cdef int q
    for q in range(NUMBERS):
        whole[q] = 0.0
    for r in range(rows):
        largest = larger(largest, cosine(sums + r * NUMBERS, h.least))
        for q in range(NUMBERS):
            whole[q] = whole[q] + sums[r * NUMBERS + q]
    if largest < h.delta / double_sqrt(length):
        for r in range(rows):
            own[r].field[0], own[r].keep = share_along(sums + r * NUMBERS, h.least), h.keep_projected
    elif cosine(whole, h.least) < h.delta / double_sqrt(length * rows):
        for r in range(rows):
            own[r].field[0], own[r].keep = share_along(whole, h.least), h.keep_projected


cdef void no_projection(const void* hyper, const double* c, const double* sums, Py_ssize_t rows, const Entry* entries,
                        Own* own) noexcept nogil:
    pass                         # of a vector, whose elements may have scales of their own


cdef inline real adamp(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const AdamP* h = <const AdamP*> hyper
    return decayed(adamp_step(h, g, s), h.along, p)


cdef void run_adamp_moments(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    measure(adamp_moments, 2, 4, w.tile)
cdef void run_adamp(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: last_pass(adamp, 2, w.tile)

cdef KernelRow* adamp_row = owns(1, bind("adamp", run_adamp, 2, "AdamP", "AdamPScalars"))
measured_rows(adamp_row, run_adamp_moments, adamp_projection, 0, PRODUCTS, PRODUCTS, SQUARES, SQUARES)
adamp_row.passes[0].moves = True
cdef KernelRow* adamp_vector_row = owns(1, bind("adamp_vector", run_adamp, 2, "AdamP", "AdamPScalars"))
measured_rows(adamp_vector_row, run_adamp_moments, no_projection, 0, PRODUCTS, PRODUCTS, SQUARES, SQUARES)
adamp_vector_row.passes[0].moves = True
