# ADOPT.  Taniguchi et al. 2024.

cdef struct ADOPT:
    real beta1
    real fresh1                  # 1 - beta1
    real beta2
    real fresh2
    real lr
    real eps
    real most                    # of |g / sqrt(v)|, where v is of the steps before


cdef inline real adopt(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const ADOPT* h = <const ADOPT*> hyper
    cdef real u = g / maximum(sqrt(s[1]), h.eps)
    u = h.most if u > h.most else u                  # comparisons are false for NaN, so NaN stays
    u = -h.most if u < -h.most else u
    s[0] = h.beta1 * s[0] + h.fresh1 * u
    s[1] = h.beta2 * s[1] + h.fresh2 * (g * g)
    return h.lr * s[0]


cdef inline real adopt_first(const void* hyper, real p, real g, real* s) noexcept nogil:
    s[1] = g * g
    return <real> 0


cdef void run_adopt(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(adopt, 2, w, i, j)
cdef void run_adopt_first(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(adopt_first, 2, w, i, j)

bind("adopt", run_adopt, 2, "ADOPT")
bind("adopt_first", run_adopt_first, 2, "ADOPT")
