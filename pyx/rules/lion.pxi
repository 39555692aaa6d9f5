# Lion.  Chen et al. 2023.

cdef struct Lion:
    real beta1
    real fresh1                  # 1 - beta1
    real beta2
    real fresh2
    real lr


cdef inline real lion(const void* hyper, real p, real g, real* m) noexcept nogil:
    cdef const Lion* h = <const Lion*> hyper
    cdef real direction = sign(h.beta1 * m[0] + h.fresh1 * g)
    m[0] = h.beta2 * m[0] + h.fresh2 * g
    return h.lr * direction


cdef void run_lion(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(lion, 1, w, i, j)

bind("lion", run_lion, 1, "Lion")
