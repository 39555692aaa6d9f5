# How whole-matrix methods put in place what they computed beside the parameters and their state.

cdef struct Descend:
    real step_size


cdef inline real descend(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const Descend* h = <const Descend*> hyper
    return h.step_size * g


cdef inline void assign(const void* hyper, real* p, real g, real* s) noexcept nogil:
    p[0] = g


cdef void run_descend(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(descend, 0, w, i, j)
cdef void run_assign(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep_only(assign, 0, w, i, j)

bind("descend", run_descend, 0, "Descend")
bind_whole("assign", run_assign, 0)
