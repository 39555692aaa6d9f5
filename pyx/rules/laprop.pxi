# LaProp.  Ziyin, Wang & Ueda 2020.

cdef struct LaProp:
    real beta1
    real fresh1                  # (1 - beta1) * lr
    real beta2
    real fresh2                  # 1 - beta2
    real inv_root_bias2          # 1 / sqrt(1 - beta2^t)
    real eps
    real size                    # lr / (average of lr), times what decay leaves of the parameter


cdef inline real laprop(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const LaProp* h = <const LaProp*> hyper
    s[1] = h.beta2 * s[1] + h.fresh2 * (g * g)
    s[0] = h.beta1 * s[0] + h.fresh1 * (g / (sqrt(s[1]) * h.inv_root_bias2 + h.eps))
    return h.size * s[0]


cdef void run_laprop(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(laprop, 2, w, i, j)

bind("laprop", run_laprop, 2, "LaProp")
