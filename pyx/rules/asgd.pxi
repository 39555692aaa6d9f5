# ASGD: SGD with decaying steps, and the average of its parameters.  Polyak & Juditsky 1992; Bottou 2010.

cdef struct ASGD:
    real keep                    # 1 - lambd * eta
    real eta
    real mu                      # weight of the new parameter in the average


cdef inline void asgd(const void* hyper, real* p, real g, real* s) noexcept nogil:
    cdef const ASGD* h = <const ASGD*> hyper
    p[0] = h.keep * p[0] - h.eta * g
    # a choice, since ax + 1 * (p - ax) is not p but p rounded, and NaN where both are infinite
    s[0] = p[0] if h.mu == <real> 1 else s[0] + h.mu * (p[0] - s[0])


cdef void run_asgd(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(asgd, 1, w, i, j)

cdef ASGD asgd_fields
bind("asgd", run_asgd, 1, asgd_fields)
