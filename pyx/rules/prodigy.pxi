# Prodigy, and Adam with D-Adaptation: the rate is the distance to the solution, as far as steps have shown it.
# Mishchenko & Defazio 2023; Defazio & Mishchenko 2023.

cdef struct Prodigy:
    real d_eps                   # eps * d, of the d that this step finds
    real first                   # 1 in a parameter's first step
    real beta1
    real fresh1                  # d * (1 - beta1)
    real beta2
    real fresh2                  # d^2 * (1 - beta2)
    real beta3
    real fresh3                  # of s
    real gain                    # d / d0 * rate
    real rate
    real counts                  # 0 in groups that stand still

cdef struct DAdaptAdam:
    real eps
    real beta1
    real fresh1                  # layer_scale * rate * (1 - beta1)
    real beta2
    real fresh2                  # 1 - beta2
    real beta3                   # sqrt(beta2)
    real fresh3                  # rate * (1 - beta3)
    real gain                    # layer_scale * rate
    real counts                  # layer_scale; 0 in groups that stand still
    real moves                   # likewise, or 1

cdef struct ProdigyScalars:      # of what moves d, the numerator, and the largest d
    double keep_numerator
    double d0
    double d_coef
    double growth_rate
    double eps

cdef struct DAdaptScalars:       # of what moves d, and the numerator
    double keep_numerator
    double fresh_numerator       # 1 - keep_numerator
    double growth_rate


cdef inline void prodigy_moments(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    # s: the sum of gradients, the parameter at the start, and Adam's moments
    cdef const Prodigy* h = <const Prodigy*> hyper
    s[1] = p if h.first != <real> 0 else s[1]
    s[2] = h.beta1 * s[2] + h.fresh1 * g
    s[3] = h.beta2 * s[3] + h.fresh2 * (g * g)
    s[0] = h.beta3 * s[0] + h.fresh3 * g
    y[0] = h.counts * fabs(s[0])
    y[1] = h.gain * g
    y[2] = s[1] - p


cdef bint prodigy_distance(const double* c, const Sums* sums, double* state, Own* own) noexcept nogil:
    cdef const ProdigyScalars* h = <const ProdigyScalars*> c
    cdef double numerator = h.keep_numerator * state[1] + sums.of[1], d = state[0], found
    if sums.of[0] == 0.0:
        return False
    found = h.d_coef * numerator / sums.of[0]
    if d == h.d0 and found > d:
        d = found
    state[2] = found if found > state[2] else state[2]
    d = d * h.growth_rate
    state[0], state[1] = d if d < state[2] else state[2], numerator
    own.field[0] = state[0] * h.eps
    return True


cdef inline real prodigy(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const Prodigy* h = <const Prodigy*> hyper
    return h.rate * s[2] / (sqrt(s[3]) + h.d_eps)


cdef inline void dadapt_adam_moments(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    # s: the sum of gradients, and Adam's moments
    cdef const DAdaptAdam* h = <const DAdaptAdam*> hyper
    y[1] = h.gain * g
    y[2] = s[0] / (sqrt(s[2]) + h.eps)
    s[1] = h.beta1 * s[1] + h.fresh1 * g
    s[2] = h.beta2 * s[2] + h.fresh2 * (g * g)
    s[0] = h.beta3 * s[0] + h.fresh3 * g
    y[0] = h.counts * fabs(s[0])


cdef bint dadapt_distance(const double* c, const Sums* sums, double* state, Own* own) noexcept nogil:
    cdef const DAdaptScalars* h = <const DAdaptScalars*> c
    cdef double numerator = h.keep_numerator * state[1] + h.fresh_numerator * sums.of[1]
    cdef double most = state[0] * h.growth_rate, found
    if sums.of[0] == 0.0:
        return False
    found = numerator / (h.fresh_numerator * sums.of[0])
    found = most if most < found else found
    state[0], state[1] = found if found > state[0] else state[0], numerator
    return True


cdef inline real dadapt_adam(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const DAdaptAdam* h = <const DAdaptAdam*> hyper
    return h.moves * s[1] / (sqrt(s[2]) + h.eps)


cdef void run_prodigy_moments(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    measure(prodigy_moments, 4, 3, w.tile)
cdef void run_prodigy(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: last_pass(prodigy, 4, w.tile)
cdef void run_dadapt_adam_moments(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    measure(dadapt_adam_moments, 3, 3, w.tile)
cdef void run_dadapt_adam(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: last_pass(dadapt_adam, 3, w.tile)

cdef KernelRow* prodigy_row = owns(1, bind("prodigy", run_prodigy, 4, "Prodigy", "ProdigyScalars"))
measured(prodigy_row, run_prodigy_moments, EVERYTHING, prodigy_distance, SUM, PRODUCTS).moves = True
prodigy_row.gradient_unread = True
cdef KernelRow* dadapt_row = bind("dadapt_adam", run_dadapt_adam, 3, "DAdaptAdam", "DAdaptScalars")
measured(dadapt_row, run_dadapt_adam_moments, EVERYTHING, dadapt_distance, SUM, PRODUCTS).moves = True
dadapt_row.gradient_unread = True
