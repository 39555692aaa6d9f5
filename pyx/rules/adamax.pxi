# Adamax.  Kingma & Ba 2015, section 7.1.

cdef struct Adamax:
    real beta1
    real fresh1                  # 1 - beta1
    real beta2
    real step_size               # lr / (1 - beta1^t)
    real eps


cdef inline real adamax(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const Adamax* h = <const Adamax*> hyper
    s[0] = h.beta1 * s[0] + h.fresh1 * g
    s[1] = maximum(h.beta2 * s[1], fabs(g) + h.eps)
    return h.step_size * s[0] / s[1]


cdef void run_adamax(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(adamax, 2, w, i, j)

bind("adamax", run_adamax, 2, "Adamax")
