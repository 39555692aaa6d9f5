# Not an update: the cheapest loops that move an optimizer's bytes, by which benchmarks know the limit of bandwidth.

cdef struct Traffic:
    real weight


cdef inline void traffic0(const void* hyper, real* p, real g, real* s) noexcept nogil:
    p[0] = p[0] + g


cdef inline void traffic1(const void* hyper, real* p, real g, real* s) noexcept nogil:
    s[0] = s[0] + g
    p[0] = p[0] + g


cdef inline void traffic2(const void* hyper, real* p, real g, real* s) noexcept nogil:
    s[0] = s[0] + g
    s[1] = s[1] + g
    p[0] = p[0] + g


cdef inline void traffic3(const void* hyper, real* p, real g, real* s) noexcept nogil:
    s[0] = s[0] + g
    s[1] = s[1] + g
    s[2] = s[2] + g
    p[0] = p[0] + g


cdef inline void traffic4(const void* hyper, real* p, real g, real* s) noexcept nogil:
    s[0] = s[0] + g
    s[1] = s[1] + g
    s[2] = s[2] + g
    s[3] = s[3] + g
    p[0] = p[0] + g


# The passes of rules that measure first; what a loop leaves as it was is not stored, what it doesn't use is not read.

cdef inline void traffic_moments(const void* hyper, real* p, real g, real* s) noexcept nogil:
    s[0] = s[0] + g
    s[1] = s[1] + g


cdef inline void traffic_moments_of(const void* hyper, real* p, real g, real* s) noexcept nogil:
    s[0] = s[0] + g
    s[1] = s[1] + p[0]


cdef inline void traffic_last(const void* hyper, real* p, real g, real* s) noexcept nogil:
    p[0] = p[0] + (<const Traffic*> hyper).weight * (s[0] + s[1])        # a weight of 0: p doesn't grow without end


cdef void run_traffic0(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep_only(traffic0, 0, w, i, j)
cdef void run_traffic1(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep_only(traffic1, 1, w, i, j)
cdef void run_traffic2(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep_only(traffic2, 2, w, i, j)
cdef void run_traffic3(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep_only(traffic3, 3, w, i, j)
cdef void run_traffic4(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep_only(traffic4, 4, w, i, j)
cdef void run_traffic_moments(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    sweep_only(traffic_moments, 2, w, i, j)
cdef void run_traffic_moments_of(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    sweep_only(traffic_moments_of, 2, w, i, j)
cdef void run_traffic_last(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    sweep_only(traffic_last, 2, w, i, j)

bind_whole("traffic0", run_traffic0, 0, "Traffic")
bind_whole("traffic1", run_traffic1, 1, "Traffic")
bind_whole("traffic2", run_traffic2, 2, "Traffic")
bind_whole("traffic3", run_traffic3, 3, "Traffic")
bind_whole("traffic4", run_traffic4, 4, "Traffic")
bind_whole("traffic_moments", run_traffic_moments, 2, "Traffic")
bind_whole("traffic_moments_of", run_traffic_moments_of, 2, "Traffic")
bind_whole("traffic_last", run_traffic_last, 2, "Traffic")
