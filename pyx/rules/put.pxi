# How whole-matrix methods put in place what they computed beside the parameters and their state.

cdef struct Descend:
    real keep                    # 1 - lr * weight_decay
    real step_size


cdef inline void descend(const void* hyper, real* p, real g, real* s) noexcept nogil:
    cdef const Descend* h = <const Descend*> hyper
    p[0] = h.keep * p[0] - h.step_size * g


cdef inline void assign(const void* hyper, real* p, real g, real* s) noexcept nogil:
    p[0] = g


cdef void run_descend(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(descend, 0, w, i, j)
cdef void run_assign(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: sweep(assign, 0, w, i, j)

cdef Descend descend_fields
bind("descend", run_descend, 0, descend_fields)
bind("assign", run_assign, 0, {})
