# Adam and AdamW.  Kingma & Ba 2015; Loshchilov & Hutter 2019; AMSGrad: Reddi et al. 2018.

cdef struct Adam:
    real step_size               # lr / (1 - beta1^t)
    real beta1
    real fresh1                  # 1 - beta1
    real beta2
    real fresh2
    real inv_root_bias2          # 1 / sqrt(1 - beta2^t)
    real eps
    real eps_root                # times 1 - beta2^t


cdef inline void adam_moments(const Adam* h, real g, real* s) noexcept nogil:
    s[0] = h.beta1 * s[0] + h.fresh1 * g
    s[1] = h.beta2 * s[1] + h.fresh2 * (g * g)


cdef inline real adam_update(const Adam* h, real m, real v) noexcept nogil:
    return h.step_size * m / (sqrt(v) * h.inv_root_bias2 + h.eps)


cdef inline real adam(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const Adam* h = <const Adam*> hyper
    adam_moments(h, g, s)
    return adam_update(h, s[0], s[1])


cdef inline real amsgrad(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const Adam* h = <const Adam*> hyper
    adam_moments(h, g, s)
    s[2] = maximum(s[2], s[1])
    return adam_update(h, s[0], s[2])


# With `eps_root`, rules of their own: in the cache, where Adam waits for its root, one addition costs a twentieth.

cdef inline real adam_root(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const Adam* h = <const Adam*> hyper
    adam_moments(h, g, s)
    return adam_update(h, s[0], s[1] + h.eps_root)


cdef inline real amsgrad_root(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const Adam* h = <const Adam*> hyper
    adam_moments(h, g, s)
    s[2] = maximum(s[2], s[1])
    return adam_update(h, s[0], s[2] + h.eps_root)


cdef void run_adam(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(adam, 2, w, i, j)
cdef void run_adam_halves(const Tile* t, const Random* random) noexcept nogil: step_halves(adam, 2, t, random)
cdef void run_amsgrad(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(amsgrad, 3, w, i, j)
cdef void run_adam_root(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(adam_root, 2, w, i, j)
cdef void run_amsgrad_root(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(amsgrad_root, 3, w, i, j)

in_halves(bind("adam", run_adam, 2, "Adam"), run_adam_halves)
bind("amsgrad", run_amsgrad, 3, "Adam")
bind("adam_root", run_adam_root, 2, "Adam")
bind("amsgrad_root", run_amsgrad_root, 3, "Adam")
