# ASGD: SGD with decaying steps, and the average of its parameters.  Polyak & Juditsky 1992; Bottou 2010.

cdef struct ASGD:
    real shrink                  # 1 - lambd * eta
    real eta
    real mu                      # weight of the new parameter in the average


cdef inline void asgd(const void* hyper, real* p, real g, real* s) noexcept nogil:
    cdef const ASGD* h = <const ASGD*> hyper
    p[0] = h.shrink * p[0] - h.eta * g
    s[0] = towards(s[0], p[0], h.mu)


cdef void run_asgd(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep_whole(asgd, 1, w, i, j)

bind_whole("asgd", run_asgd, 1, "ASGD")
