# Adagrad.  Duchi, Hazan & Singer 2011.

cdef struct Adagrad:
    real step_size               # lr / (1 + (t - 1) * lr_decay)
    real eps


cdef inline real adagrad(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const Adagrad* h = <const Adagrad*> hyper
    s[0] = s[0] + g * g
    return h.step_size * g / (sqrt(s[0]) + h.eps)


cdef void run_adagrad(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(adagrad, 1, w, i, j)

bind("adagrad", run_adagrad, 1, "Adagrad")
