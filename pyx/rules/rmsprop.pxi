# RMSprop, centered and with momentum.  Tieleman & Hinton 2012; centered: Graves 2013.

cdef struct RMSprop:
    real alpha
    real fresh                   # 1 - alpha
    real eps
    real lr
    real momentum                # unused without momentum


cdef inline real square_mean(const RMSprop* h, real g, real* s) noexcept nogil:
    # sqrt of the mean of squares, s[0]
    s[0] = h.alpha * s[0] + h.fresh * (g * g)
    return sqrt(s[0]) + h.eps


cdef inline real deviation(const RMSprop* h, real g, real* s) noexcept nogil:
    # sqrt of the variance, from the means of squares, s[0], and of gradients, s[1]
    s[0] = h.alpha * s[0] + h.fresh * (g * g)
    s[1] = h.alpha * s[1] + h.fresh * g
    # rounding may leave a variance below zero, whose root would be NaN for ever
    return sqrt(maximum(s[0] - s[1] * s[1], <real> 0)) + h.eps


cdef inline real rmsprop(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const RMSprop* h = <const RMSprop*> hyper
    return h.lr * g / square_mean(h, g, s)


cdef inline real rmsprop_centered(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const RMSprop* h = <const RMSprop*> hyper
    return h.lr * g / deviation(h, g, s)


cdef inline real rmsprop_momentum(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const RMSprop* h = <const RMSprop*> hyper
    s[1] = h.momentum * s[1] + g / square_mean(h, g, s)
    return h.lr * s[1]


cdef inline real rmsprop_centered_momentum(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const RMSprop* h = <const RMSprop*> hyper
    s[2] = h.momentum * s[2] + g / deviation(h, g, s)
    return h.lr * s[2]


cdef void run_rmsprop(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(rmsprop, 1, w, i, j)
cdef void run_rmsprop_centered(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    sweep(rmsprop_centered, 2, w, i, j)
cdef void run_rmsprop_momentum(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    sweep(rmsprop_momentum, 2, w, i, j)
cdef void run_rmsprop_centered_momentum(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    sweep(rmsprop_centered_momentum, 3, w, i, j)

bind("rmsprop", run_rmsprop, 1, "RMSprop")
bind("rmsprop_centered", run_rmsprop_centered, 2, "RMSprop")
bind("rmsprop_momentum", run_rmsprop_momentum, 2, "RMSprop")
bind("rmsprop_centered_momentum", run_rmsprop_centered_momentum, 3, "RMSprop")
