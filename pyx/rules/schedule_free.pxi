# Schedule-Free SGD, AdamW and RAdam: the parameter is y, between the base sequence z and its average x.
# Defazio et al. 2024.

cdef struct ScheduleFree:
    real first                   # 1 in a parameter's first step, in which z begins where y is
    real newest                  # weight of z in the average
    real pull                    # lr * (1 - momentum * (1 - newest))
    real lr

cdef struct ScheduleFreeAdam:    # begins as that of SGD
    real first
    real newest
    real pull
    real lr
    real decay
    real beta2
    real fresh2                  # 1 - beta2
    real normalized              # 0: the gradient is taken as it is
    real inv_root_bias2          # 1 / sqrt(1 - beta2^t)
    real eps


cdef inline real towards_base(const ScheduleFree* h, real y, real u, real* z) noexcept nogil:
    cdef real base = y if h.first != <real> 0 else z[0]
    z[0] = base - h.lr * u
    return h.newest * (y - base) + h.pull * u


cdef inline real schedule_free_sgd(const void* hyper, real y, real g, real* s) noexcept nogil:
    return towards_base(<const ScheduleFree*> hyper, y, g, s)


cdef inline real schedule_free_adam(const void* hyper, real y, real g, real* s) noexcept nogil:
    cdef const ScheduleFreeAdam* h = <const ScheduleFreeAdam*> hyper
    cdef real u
    s[1] = h.beta2 * s[1] + h.fresh2 * (g * g)
    u = g / (sqrt(s[1]) * h.inv_root_bias2 + h.eps)
    u = u if h.normalized != <real> 0 else g
    return towards_base(<const ScheduleFree*> hyper, y, decayed(u, h.decay, y), s)


cdef void run_schedule_free_sgd(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    sweep(schedule_free_sgd, 1, w, i, j)
cdef void run_schedule_free_adam(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    sweep(schedule_free_adam, 2, w, i, j)

bind("schedule_free_sgd", run_schedule_free_sgd, 1, "ScheduleFree")
bind("schedule_free_adam", run_schedule_free_adam, 2, "ScheduleFreeAdam")
