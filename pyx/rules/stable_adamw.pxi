# StableAdamW: AdamW whose step shrinks where the second moments lag behind the gradient.  Wortsman et al. 2023.

cdef struct StableAdamW:
    real beta1
    real fresh1                  # 1 - beta1
    real beta2
    real fresh2
    real inv_bias1               # 1 / (1 - beta1^t)
    real inv_bias2
    real eps
    real eps_squared

cdef struct StableStep:
    double lr
    double decay


cdef inline void stable_moments(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    # g / sqrt(max(v, eps^2)) is 0 where g is 0, also where eps^2 is below the smallest float
    cdef const StableAdamW* h = <const StableAdamW*> hyper
    s[0] = h.beta1 * s[0] + h.fresh1 * g
    s[1] = h.beta2 * s[1] + h.fresh2 * (g * g)
    y[0] = g / sqrt(maximum(s[1] * h.inv_bias2, h.eps_squared))
    y[0] = <real> 0 if g == <real> 0 else y[0]


cdef bint stable_step(const double* c, const Sums* sums, double* state, Own* own) noexcept nogil:
    # lr / max(1, root mean square), where a NaN counts as 1
    cdef const StableStep* h = <const StableStep*> c
    cdef double rms = double_sqrt(sums.of[0] / sums.count), lr = h.lr / rms if rms > 1.0 else h.lr
    own.scale = own.against = lr
    own.keep = 1.0 - lr * h.decay
    return True


cdef inline real stable_adamw(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const StableAdamW* h = <const StableAdamW*> hyper
    return s[0] * h.inv_bias1 / (sqrt(s[1] * h.inv_bias2) + h.eps)


cdef void run_stable_moments(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    measure(stable_moments, 2, 1, w.tile)
cdef void run_stable_adamw(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: last_pass(stable_adamw, 2, w.tile)

cdef KernelRow* stable_row = bind("stable_adamw", run_stable_adamw, 2, "StableAdamW", "StableStep")
measured(stable_row, run_stable_moments, TENSOR, stable_step, SQUARES).moves = True
stable_row.gradient_unread = True
