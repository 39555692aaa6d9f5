# NAdam.  Dozat 2016.

cdef struct NAdam:
    real beta1
    real fresh1                  # 1 - beta1
    real beta2
    real fresh2
    real step_grad               # lr * (1 - mu_t) / (1 - mu_1 ... mu_t)
    real step_mean               # lr * mu_(t+1) / (1 - mu_1 ... mu_(t+1))
    real inv_root_bias2          # 1 / sqrt(1 - beta2^t)
    real eps


cdef inline real nadam(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const NAdam* h = <const NAdam*> hyper
    s[0] = h.beta1 * s[0] + h.fresh1 * g
    s[1] = h.beta2 * s[1] + h.fresh2 * (g * g)
    return (h.step_grad * g + h.step_mean * s[0]) / (sqrt(s[1]) * h.inv_root_bias2 + h.eps)


cdef void run_nadam(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(nadam, 2, w, i, j)

bind("nadam", run_nadam, 2, "NAdam")
