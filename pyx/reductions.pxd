# The simplest vector kernels: sums and maxima of a block, and what clipping and accumulating do to gradients in place.

from .lanes cimport largest_magnitude, magnitude, product, square, total
from .real cimport const_real_array, larger, real, real_array


cdef inline void dot(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    out[0] += total(product, <const real*> v[0], <const real*> v[1], n)


cdef inline void sum_squares(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # as dot(a, a): one load and one conversion less
    out[0] += total(square, <const real*> v[0], <const real*> v[0], n)


cdef inline void sum_abs(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    out[0] += total(magnitude, <const real*> v[0], <const real*> v[0], n)


cdef inline void max_abs(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    out[0] = larger(out[0], largest_magnitude(<const real*> v[0], n))


cdef inline void scale(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # y = c0 * y
    cdef real_array y = <real*> v[0]
    cdef real factor = <real> c[0]
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = factor * y[i]


cdef inline void limit(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # y clipped to +-c0; comparisons are false for NaN, so NaN stays
    cdef real_array y = <real*> v[0]
    cdef real most = <real> c[0], value
    cdef Py_ssize_t i
    for i in range(n):
        value = y[i]
        value = most if value > most else value
        y[i] = -most if value < -most else value


cdef inline void add(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* out) noexcept nogil:
    # y = y + x
    cdef real_array y = <real*> v[0]
    cdef const_real_array x = <const real*> v[1]
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = y[i] + x[i]
