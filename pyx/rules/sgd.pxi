# SGD, with momentum and Nesterov's.  Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013.

cdef struct SGD:
    real lr

cdef struct Momentum:
    real momentum
    real fresh                   # 1 - dampening; 1 in the first step, whose buffer is the gradient itself
    real lr


cdef inline real sgd(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const SGD* h = <const SGD*> hyper
    return h.lr * g


cdef inline real momentum(const void* hyper, real p, real g, real* b) noexcept nogil:
    cdef const Momentum* h = <const Momentum*> hyper
    b[0] = h.momentum * b[0] + h.fresh * g
    return h.lr * b[0]


cdef inline real nesterov(const void* hyper, real p, real g, real* b) noexcept nogil:
    cdef const Momentum* h = <const Momentum*> hyper
    b[0] = h.momentum * b[0] + h.fresh * g
    return h.lr * (g + h.momentum * b[0])


cdef void run_sgd(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(sgd, 0, w, i, j)
cdef void run_momentum(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(momentum, 1, w, i, j)
cdef void run_momentum_halves(const Tile* t, const Random* random) noexcept nogil: step_halves(momentum, 1, t, random)
cdef void run_nesterov(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(nesterov, 1, w, i, j)

bind("sgd", run_sgd, 0, "SGD")
in_halves(bind("momentum", run_momentum, 1, "Momentum"), run_momentum_halves)
bind("nesterov", run_nesterov, 1, "Momentum")
