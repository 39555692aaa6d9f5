# A running mean of parameters: the average steps towards the parameter, which stands where the gradient does.
# Polyak & Juditsky 1992; Izmailov et al. 2018.

cdef struct Mean:
    real weight                  # of the newest value


cdef inline void mean(const void* hyper, real* a, real p, real* s) noexcept nogil:
    cdef const Mean* h = <const Mean*> hyper
    a[0] = towards(a[0], p, h.weight)


cdef void run_mean(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep_only(mean, 0, w, i, j)

bind_whole("mean", run_mean, 0, "Mean")
