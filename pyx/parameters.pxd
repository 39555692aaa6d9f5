# What is known of a parameter, and where arrays lie.

cimport numpy as cnp
from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memcmp

cdef uint64_t assignments


cdef inline bint fits(cnp.ndarray a, cnp.ndarray b) noexcept:
    # same dtype, byte order and shape; an array without axes has no DIMS
    cdef int d = cnp.PyArray_NDIM(a)
    return (cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(b) and d == cnp.PyArray_NDIM(b)
            and cnp.PyArray_ISNOTSWAPPED(a)
            and (d == 0 or memcmp(cnp.PyArray_DIMS(a), cnp.PyArray_DIMS(b), d * sizeof(cnp.npy_intp)) == 0))


cdef inline bint same_layout(cnp.ndarray a, cnp.ndarray b) noexcept:
    # b's elements stand in memory in the order of a's (a is contiguous one way or the other)
    return (cnp.PyArray_ISALIGNED(b)
            and (cnp.PyArray_IS_C_CONTIGUOUS(b) if cnp.PyArray_IS_C_CONTIGUOUS(a)
                 else cnp.PyArray_IS_F_CONTIGUOUS(b)))


cdef class ParameterCore:
    cdef readonly cnp.ndarray array
    cdef object gradient
    cdef object extra_reference          # A second one to the gradient, and to the array: `ndarray.resize` refuses
    cdef object array_reference          # arrays with more than one, so cached addresses stay valid.
    cdef uint64_t version                # of the gradient
    cdef object __weakref__

    cdef void replace(self, gradient) noexcept


cdef class AddressRanges:
    cdef uintptr_t* begin
    cdef uintptr_t* end
    cdef Py_ssize_t count
    cdef readonly bint overlapping       # two of the arrays share memory

    cpdef bint overlaps(self, cnp.ndarray array) except -1
