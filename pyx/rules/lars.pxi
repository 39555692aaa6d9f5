# LARS.  You, Gitman & Ginsburg 2017.

cdef struct LARS:
    real ratio                   # the tensor's own
    real decay
    real measured_decay          # the same where the norm is that of gradient and decay together, else 0
    real momentum                # unused without momentum
    real fresh                   # 1 - dampening; 1 in the first step, whose buffer is the gradient itself
    real lr                      # 1 where the ratio contains it

cdef struct TrustInGradient:
    double trust                 # the coefficient of |p|
    double denominator_decay     # of |p|
    double eps
    double most                  # the largest ratio
    double factor                # of the ratio
    double adapts                # 0: the ratio is 1


cdef inline void lars_norms(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    cdef const LARS* h = <const LARS*> hyper
    y[0] = p
    y[1] = decayed(g, h.measured_decay, p)


cdef bint lars_trust(const double* c, const Sums* sums, double* state, Own* own) noexcept nogil:
    cdef const TrustInGradient* h = <const TrustInGradient*> c
    cdef double weight = double_sqrt(sums.of[0]), gradient = double_sqrt(sums.of[1]), ratio = 1.0
    if h.adapts and weight > 0.0 and gradient > 0.0:
        ratio = h.trust * weight / (gradient + weight * h.denominator_decay + h.eps)
    if h.adapts:
        ratio = min(ratio, h.most)
    own.field[0] = h.factor * ratio
    return True


cdef inline real trusted(const LARS* h, real p, real g) noexcept nogil:
    return decayed(g, h.decay, p) * h.ratio


cdef inline real lars(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const LARS* h = <const LARS*> hyper
    return h.lr * trusted(h, p, g)


cdef inline real lars_momentum(const void* hyper, real p, real g, real* b) noexcept nogil:
    cdef const LARS* h = <const LARS*> hyper
    b[0] = h.momentum * b[0] + h.fresh * trusted(h, p, g)
    return h.lr * b[0]


cdef inline real lars_nesterov(const void* hyper, real p, real g, real* b) noexcept nogil:
    cdef const LARS* h = <const LARS*> hyper
    cdef real step = trusted(h, p, g)
    b[0] = h.momentum * b[0] + h.fresh * step
    return h.lr * (step + h.momentum * b[0])


cdef void run_lars_norms(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: measure(lars_norms, 0, 2, w.tile)
cdef void run_lars(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: last_pass(lars, 0, w.tile)
cdef void run_lars_momentum(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    last_pass(lars_momentum, 1, w.tile)
cdef void run_lars_nesterov(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    last_pass(lars_nesterov, 1, w.tile)

measured(owns(1, bind("lars", run_lars, 0, "LARS", "TrustInGradient")),
         run_lars_norms, TENSOR, lars_trust, SQUARES, SQUARES).state_unread = True
measured(owns(1, bind("lars_momentum", run_lars_momentum, 1, "LARS", "TrustInGradient")),
         run_lars_norms, TENSOR, lars_trust, SQUARES, SQUARES).state_unread = True
measured(owns(1, bind("lars_nesterov", run_lars_nesterov, 1, "LARS", "TrustInGradient")),
         run_lars_norms, TENSOR, lars_trust, SQUARES, SQUARES).state_unread = True
