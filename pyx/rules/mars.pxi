# MARS.  Yuan et al. 2024.

cdef struct Mars:
    real norm                    # max(1, |c|), the tensor's own
    real change                  # gamma * beta1 / (1 - beta1); 0 in the first step, before which there is no gradient
    real beta1
    real fresh1                  # 1 - beta1
    real beta2
    real fresh2
    real step_size               # lr / (1 - beta1^t)
    real inv_root_bias2          # 1 / sqrt(1 - beta2^t)
    real eps
    real beta1_1d                # the same for AdamW, of parameters with fewer than two axes
    real fresh1_1d
    real beta2_1d
    real fresh2_1d
    real step_size_1d
    real inv_root_bias2_1d


cdef inline real corrected(const Mars* h, real g, const real* s) noexcept nogil:
    return decayed(g, h.change, g - s[2])


cdef inline void mars_norm(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    y[0] = corrected(<const Mars*> hyper, g, s)


cdef bint mars_size(const double* c, const Sums* sums, double* state, Own* own) noexcept nogil:
    own.field[0] = larger(1.0, double_sqrt(sums.of[0]))
    return True


cdef inline real mars(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const Mars* h = <const Mars*> hyper
    cdef real c = corrected(h, g, s) / h.norm
    s[0] = h.beta1 * s[0] + h.fresh1 * c
    s[1] = h.beta2 * s[1] + h.fresh2 * (c * c)
    s[2] = g
    return h.step_size * s[0] / (sqrt(s[1]) * h.inv_root_bias2 + h.eps)


cdef inline real mars_vector(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const Mars* h = <const Mars*> hyper
    s[0] = h.beta1_1d * s[0] + h.fresh1_1d * g
    s[1] = h.beta2_1d * s[1] + h.fresh2_1d * (g * g)
    return h.step_size_1d * s[0] / (sqrt(s[1]) * h.inv_root_bias2_1d + h.eps)


cdef void run_mars_norm(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: measure(mars_norm, 3, 1, w.tile)
cdef void run_mars(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: last_pass(mars, 3, w.tile)
cdef void run_mars_vector(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(mars_vector, 2, w, i, j)

measured(owns(1, bind("mars", run_mars, 3, "Mars")), run_mars_norm, TENSOR, mars_size, SQUARES)
bind("mars_vector", run_mars_vector, 2, "Mars")
