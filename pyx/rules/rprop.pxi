# Rprop.  Riedmiller & Braun 1993; the gradient that turned is forgotten: Igel & Hüsken 2000 (iRprop-).

cdef struct Rprop:
    real shrink                  # etas[0]
    real grow                    # etas[1]
    real least                   # step_sizes[0]
    real most                    # step_sizes[1]


cdef inline real rprop(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const Rprop* h = <const Rprop*> hyper
    cdef real agreement = g * s[0]
    cdef real size = (h.grow if agreement > <real> 0 else h.shrink if agreement < <real> 0 else <real> 1) * s[1]
    size = size if size > h.least else h.least
    s[1] = size if size < h.most else h.most
    s[0] = <real> 0 if agreement < <real> 0 else g
    return sign(s[0]) * s[1]


cdef void run_rprop(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(rprop, 2, w, i, j)

bind("rprop", run_rprop, 2, "Rprop")
