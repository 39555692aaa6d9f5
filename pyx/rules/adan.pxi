# Adan.  Xie et al. 2022.

cdef struct Adan:
    real beta1
    real fresh1                  # 1 - beta1
    real beta2
    real fresh2
    real beta3
    real fresh3
    real step_mean               # lr / (1 - beta1^t), times what proximal decay leaves of the parameter
    real step_change             # lr * beta2 / (1 - beta2^t), likewise
    real inv_root_bias3          # 1 / sqrt(1 - beta3^t)
    real eps
    real seen                    # 0 in the first step, before which there is no gradient


cdef inline real adan(const void* hyper, real p, real g, real* s) noexcept nogil:
    # m, n, d, and the gradient of the step before, negated as in the authors' state
    cdef const Adan* h = <const Adan*> hyper
    cdef real change = g + s[3] if h.seen != <real> 0 else <real> 0
    cdef real ahead = g + h.beta2 * change
    s[0] = h.beta1 * s[0] + h.fresh1 * g
    s[1] = h.beta3 * s[1] + h.fresh3 * (ahead * ahead)
    s[2] = h.beta2 * s[2] + h.fresh2 * change
    s[3] = -g
    return (h.step_mean * s[0] + h.step_change * s[2]) / (sqrt(s[1]) * h.inv_root_bias3 + h.eps)


cdef void run_adan(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(adan, 4, w, i, j)

bind("adan", run_adan, 4, "Adan")
