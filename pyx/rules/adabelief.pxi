# AdaBelief.  Zhuang et al. 2020.

cdef struct AdaBelief:
    real beta1
    real fresh1                  # 1 - beta1
    real beta2
    real fresh2
    real step_size               # lr / (1 - beta1^t)
    real inv_root_bias2          # 1 / sqrt(1 - beta2^t)
    real eps


cdef inline real adabelief(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const AdaBelief* h = <const AdaBelief*> hyper
    cdef real surprise
    s[0] = h.beta1 * s[0] + h.fresh1 * g
    surprise = g - s[0]
    s[1] = h.beta2 * s[1] + h.fresh2 * (surprise * surprise) + h.eps
    return h.step_size * s[0] / (sqrt(s[1]) * h.inv_root_bias2 + h.eps)


cdef void run_adabelief(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(adabelief, 2, w, i, j)

bind("adabelief", run_adabelief, 2, "AdaBelief")
