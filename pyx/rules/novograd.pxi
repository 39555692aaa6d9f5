# NovoGrad.  Ginsburg et al. 2019.

cdef struct NovoGrad:
    real size                    # sqrt(v) + eps, the tensor's own
    real decay
    real beta1
    real fresh                   # 1 - beta1 where the gradients are averaged, else 1
    real lr

cdef struct NovoGradScalars:
    double beta2
    double fresh2                # 1 - beta2
    double eps


cdef inline void novograd_norm(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    y[0] = g


cdef bint novograd_size(const double* c, const Sums* sums, double* v, Own* own) noexcept nogil:
    cdef const NovoGradScalars* h = <const NovoGradScalars*> c
    v[0] = sums.of[0] if v[0] == 0.0 else h.beta2 * v[0] + h.fresh2 * sums.of[0]
    own.field[0] = double_sqrt(v[0]) + h.eps
    return True


cdef inline real novograd(const void* hyper, real p, real g, real* m) noexcept nogil:
    cdef const NovoGrad* h = <const NovoGrad*> hyper
    m[0] = h.beta1 * m[0] + h.fresh * decayed(g / h.size, h.decay, p)
    return h.lr * m[0]


cdef void run_novograd_norm(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    measure(novograd_norm, 0, 1, w.tile)
cdef void run_novograd(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: last_pass(novograd, 1, w.tile)

measured(owns(1, bind("novograd", run_novograd, 1, "NovoGrad", "NovoGradScalars"), 1),
         run_novograd_norm, TENSOR, novograd_size, SQUARES).state_unread = True
