# LAMB.  You et al. 2020.

cdef struct LAMB:
    real beta1
    real fresh1                  # 1 - beta1, or 1 where the gradients' average isn't one
    real beta2
    real fresh2
    real inv_bias1               # 1 / (1 - beta1^t)
    real inv_root_bias2          # 1 / sqrt(1 - beta2^t)
    real eps
    real decay

cdef struct TrustInUpdate:
    double lr
    double most                  # the largest ratio
    double adapts                # 0: the ratio is 1


cdef inline real lamb_direction(const LAMB* h, real p, const real* s) noexcept nogil:
    return decayed(s[0] * h.inv_bias1 / (sqrt(s[1]) * h.inv_root_bias2 + h.eps), h.decay, p)


cdef inline void lamb_moments(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    cdef const LAMB* h = <const LAMB*> hyper
    s[0] = h.beta1 * s[0] + h.fresh1 * g
    s[1] = h.beta2 * s[1] + h.fresh2 * (g * g)
    y[0] = p
    y[1] = lamb_direction(h, p, s)


cdef bint lamb_trust(const double* c, const Sums* sums, double* state, Own* own) noexcept nogil:
    # |p| / |update|, and 1 where either is 0 or NaN
    cdef const TrustInUpdate* h = <const TrustInUpdate*> c
    cdef double ratio = 1.0
    if h.adapts and sums.of[0] > 0.0 and sums.of[1] > 0.0:
        ratio = min(double_sqrt(sums.of[0]) / double_sqrt(sums.of[1]), h.most)
    own.scale = own.against = h.lr * ratio
    return True


cdef inline real lamb(const void* hyper, real p, real g, real* s) noexcept nogil:
    return lamb_direction(<const LAMB*> hyper, p, s)


cdef void run_lamb_moments(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    measure(lamb_moments, 2, 2, w.tile)
cdef void run_lamb(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: last_pass(lamb, 2, w.tile)

cdef KernelRow* lamb_row = bind("lamb", run_lamb, 2, "LAMB", "TrustInUpdate")
measured(lamb_row, run_lamb_moments, TENSOR, lamb_trust, SQUARES, SQUARES).moves = True
lamb_row.gradient_unread = True
