# What Muon makes orthogonal.  Jordan et al. 2024.
#
# The buffer itself stands still: it moves, by the same formula, when the whole step is put in place.

cdef struct Muon:
    real momentum
    real fresh                   # 1 - momentum


cdef inline void muon(const void* hyper, real* u, real g, real* s) noexcept nogil:
    cdef const Muon* h = <const Muon*> hyper
    u[0] = towards(s[0], g, h.fresh)


cdef inline void muon_nesterov(const void* hyper, real* u, real g, real* s) noexcept nogil:
    cdef const Muon* h = <const Muon*> hyper
    u[0] = g + h.momentum * (towards(s[0], g, h.fresh) - g)


cdef void run_muon(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep_only(muon, 1, w, i, j)
cdef void run_muon_nesterov(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    sweep_only(muon_nesterov, 1, w, i, j)

bind_whole("muon", run_muon, 1, "Muon")
bind_whole("muon_nesterov", run_muon_nesterov, 1, "Muon")
