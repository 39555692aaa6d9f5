# RAdam.  Liu et al. 2020.

cdef struct RAdam:
    real beta1
    real fresh1                  # 1 - beta1
    real beta2
    real fresh2
    real step_size               # lr / (1 - beta1^t), times sqrt(1 - beta2^t) and the rectification where rectified
    real rectified               # 0 while the variance of v is intractable: then a step of momentum
    real eps


cdef inline real radam(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const RAdam* h = <const RAdam*> hyper
    s[0] = h.beta1 * s[0] + h.fresh1 * g
    s[1] = h.beta2 * s[1] + h.fresh2 * (g * g)
    # a choice, since 0 * sqrt(v) + 1 would be NaN where g * g is infinite
    return h.step_size * s[0] / (sqrt(s[1]) + h.eps if h.rectified != <real> 0 else <real> 1)


cdef void run_radam(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(radam, 2, w, i, j)

bind("radam", run_radam, 2, "RAdam")
