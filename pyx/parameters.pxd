# What is known of a parameter, and where arrays lie.

cimport numpy as cnp
from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memcmp

cdef extern from "shared.h":
    ctypedef uint64_t shared_count

cdef shared_count assignments


cdef inline Py_ssize_t size_in_reals(cnp.ndarray a) noexcept:
    # Kernels see a complex number as two real ones, side by side.
    return cnp.PyArray_SIZE(a) * (2 if cnp.PyArray_ISCOMPLEX(a) else 1)


cdef inline int real_itemsize(cnp.ndarray a) noexcept:
    return cnp.PyArray_ITEMSIZE(a) // (2 if cnp.PyArray_ISCOMPLEX(a) else 1)


cdef inline bint fits(cnp.ndarray a, cnp.ndarray b) noexcept:
    # same dtype, byte order and shape; an array without axes has no DIMS
    cdef int d = cnp.PyArray_NDIM(a)
    return (cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(b) and d == cnp.PyArray_NDIM(b)
            and cnp.PyArray_ISNOTSWAPPED(a)
            and (d == 0 or memcmp(cnp.PyArray_DIMS(a), cnp.PyArray_DIMS(b), d * sizeof(cnp.npy_intp)) == 0))


cdef inline bint in_fortran_order(cnp.ndarray a) noexcept:
    # else its elements are stepped in C order, whether they lie so or not
    return cnp.PyArray_IS_F_CONTIGUOUS(a) and not cnp.PyArray_IS_C_CONTIGUOUS(a)


cdef inline bint same_layout(cnp.ndarray a, cnp.ndarray b) noexcept:
    # b's elements stand in memory in the order in which a's are stepped
    return (cnp.PyArray_ISALIGNED(b)
            and (cnp.PyArray_IS_F_CONTIGUOUS(b) if in_fortran_order(a) else cnp.PyArray_IS_C_CONTIGUOUS(b)))


cdef inline void find_bounds(cnp.ndarray a, uintptr_t* begin, uintptr_t* end) noexcept:
    # the bytes from a's first in memory to its last: among them may be some of other arrays
    cdef int k
    cdef Py_ssize_t along
    begin[0] = end[0] = <uintptr_t> cnp.PyArray_DATA(a)
    if cnp.PyArray_IS_C_CONTIGUOUS(a) or cnp.PyArray_IS_F_CONTIGUOUS(a):
        end[0] += <uintptr_t> cnp.PyArray_NBYTES(a)
        return
    if not cnp.PyArray_SIZE(a):
        return
    for k in range(cnp.PyArray_NDIM(a)):
        along = (cnp.PyArray_DIM(a, k) - 1) * cnp.PyArray_STRIDE(a, k)
        if along < 0:
            begin[0] -= <uintptr_t> -along
        else:
            end[0] += <uintptr_t> along
    end[0] += <uintptr_t> cnp.PyArray_ITEMSIZE(a)


cdef class ParameterCore:
    cdef readonly cnp.ndarray array
    cdef object gradient
    cdef object extra_reference          # A second one to the gradient, and to the array: `ndarray.resize` refuses
    cdef object array_reference          # arrays with more than one, so cached addresses stay valid.
    cdef shared_count version            # of the gradient
    cdef object __weakref__

    cdef void replace(self, gradient) noexcept
    cdef object taken(self)              # the gradient, whichever thread replaces it just now


cdef class AddressRanges:
    cdef uintptr_t* begin
    cdef uintptr_t* end
    cdef Py_ssize_t count
    cdef readonly bint overlapping       # two of the ranges: the arrays share memory, or interleave

    cpdef bint overlaps(self, cnp.ndarray array) except -1
