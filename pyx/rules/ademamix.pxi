# AdEMAMix.  Pagliardini, Ablin & Grangier 2024.

cdef struct AdEMAMix:
    real beta1
    real fresh1                  # 1 - beta1
    real beta2
    real fresh2
    real beta3                   # of this step
    real fresh3
    real step_fast               # lr / (1 - beta1^t)
    real step_slow               # lr * alpha, of this step
    real inv_root_bias2          # 1 / sqrt(1 - beta2^t)
    real eps


cdef inline real ademamix(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const AdEMAMix* h = <const AdEMAMix*> hyper
    s[0] = h.beta1 * s[0] + h.fresh1 * g
    s[1] = h.beta3 * s[1] + h.fresh3 * g
    s[2] = h.beta2 * s[2] + h.fresh2 * (g * g)
    return (h.step_fast * s[0] + h.step_slow * s[1]) / (sqrt(s[2]) * h.inv_root_bias2 + h.eps)


cdef void run_ademamix(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(ademamix, 3, w, i, j)

bind("ademamix", run_ademamix, 3, "AdEMAMix")
