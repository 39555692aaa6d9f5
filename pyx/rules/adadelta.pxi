# Adadelta.  Zeiler 2012.

cdef struct Adadelta:
    real rho
    real fresh                   # 1 - rho
    real eps
    real lr


cdef inline real adadelta(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const Adadelta* h = <const Adadelta*> hyper
    cdef real delta
    s[0] = h.rho * s[0] + h.fresh * (g * g)
    delta = sqrt(s[1] + h.eps) / sqrt(s[0] + h.eps) * g
    s[1] = h.rho * s[1] + h.fresh * (delta * delta)
    return h.lr * delta


cdef void run_adadelta(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(adadelta, 2, w, i, j)

bind("adadelta", run_adadelta, 2, "Adadelta")
