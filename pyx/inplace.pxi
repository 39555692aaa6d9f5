# Maps of one block of elements in place, y = f(a, x, y): what clipping and accumulating do to gradients.

cdef void scale(double a, const void* x, void* y, Py_ssize_t n) noexcept nogil:
    cdef real_array to = <real*> y
    cdef real factor = <real> a
    cdef Py_ssize_t i
    for i in range(n):
        to[i] = factor * to[i]


cdef void limit(double a, const void* x, void* y, Py_ssize_t n) noexcept nogil:
    # comparisons are false for NaN, so NaN stays
    cdef real_array to = <real*> y
    cdef real most = <real> a, value
    cdef Py_ssize_t i
    for i in range(n):
        value = to[i]
        value = most if value > most else value
        to[i] = -most if value < -most else value


cdef void add(double a, const void* x, void* y, Py_ssize_t n) noexcept nogil:
    cdef real_array to = <real*> y
    cdef const_real_array of = <const real*> x
    cdef Py_ssize_t i
    for i in range(n):
        to[i] = to[i] + of[i]


ctypedef void (*Map)(double a, const void* x, void* y, Py_ssize_t n) noexcept nogil


cdef void bind_map(str name, Map run):
    MAPS[name] = PyCapsule_New(<void*> run, "optimlite.map", NULL), sizeof(real)


bind_map("scale", scale)
bind_map("limit", limit)
bind_map("add", add)
