# Copies between an array of any strides and a contiguous one, block by block over the pool.
#
# In C, since nothing may fail in the middle of a step; and NumPy's own take one thread, and longer for short rows.

cimport numpy as cnp
from libc.string cimport memcpy

from .runtime cimport run_jobs
from .table cimport BLOCK

cdef enum:
    MOST_AXES = 64               # that NumPy has
    FEW = 16                     # elements, which are copied one by one faster than by a call


cdef struct Copy:
    char* strided
    char* contiguous
    bint gathers                 # from the strided one; else into it
    Py_ssize_t itemsize
    Py_ssize_t size
    int axes                     # in the order of the contiguous one, those that belong together joined
    Py_ssize_t shape[MOST_AXES]
    Py_ssize_t strides[MOST_AXES]


cdef inline void copy_elements(char* strided, Py_ssize_t by_row, Py_ssize_t by_element, char* contiguous,
                               Py_ssize_t rows, Py_ssize_t n, size_t itemsize, bint gathers) noexcept nogil:
    # gradients may be misaligned
    cdef Py_ssize_t _, i
    for _ in range(rows):
        for i in range(n):
            if gathers:
                memcpy(contiguous + i * itemsize, strided + i * by_element, itemsize)
            else:
                memcpy(strided + i * by_element, contiguous + i * itemsize, itemsize)
        strided += by_row
        contiguous += n * itemsize


cdef inline void copy_rows(const Copy* c, char* strided, Py_ssize_t by_row, char* contiguous, Py_ssize_t rows,
                           Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t by_element = c.strides[c.axes - 1], k
    if by_element == c.itemsize and n > FEW:
        for k in range(rows):
            if c.gathers:
                memcpy(contiguous + k * n * c.itemsize, strided + k * by_row, n * c.itemsize)
            else:
                memcpy(strided + k * by_row, contiguous + k * n * c.itemsize, n * c.itemsize)
    elif c.itemsize == 4 and c.gathers:
        copy_elements(strided, by_row, by_element, contiguous, rows, n, 4, True)
    elif c.itemsize == 4:
        copy_elements(strided, by_row, by_element, contiguous, rows, n, 4, False)
    elif c.itemsize == 8 and c.gathers:
        copy_elements(strided, by_row, by_element, contiguous, rows, n, 8, True)
    elif c.itemsize == 8:
        copy_elements(strided, by_row, by_element, contiguous, rows, n, 8, False)
    else:
        copy_elements(strided, by_row, by_element, contiguous, rows, n, c.itemsize, c.gathers)


cdef inline void copy_block(void* context, Py_ssize_t job) noexcept nogil:
    cdef const Copy* c = <const Copy*> context
    cdef Py_ssize_t index[MOST_AXES]
    cdef Py_ssize_t rest = job * BLOCK, left = min(<Py_ssize_t> BLOCK, c.size - rest), rows, n
    cdef char* strided = c.strided
    cdef char* contiguous = c.contiguous + rest * c.itemsize
    cdef int last = c.axes - 1, k
    for k in range(last, -1, -1):
        index[k] = rest % c.shape[k]
        rest = rest // c.shape[k]
        strided += index[k] * c.strides[k]
    while left:
        rows, n, k = 1, min(left, c.shape[last] - index[last]), last
        if last and n == c.shape[last]:          # whole rows, up to the next step of an axis further out
            k = last - 1
            rows = min(left // n, c.shape[k] - index[k])
        copy_rows(c, strided, c.strides[k], contiguous, rows, n)
        contiguous += rows * n * c.itemsize
        left -= rows * n
        rest = n if k == last else rows          # along axis k
        strided += rest * c.strides[k]
        index[k] += rest
        while k and index[k] == c.shape[k]:
            strided += c.strides[k - 1] - c.shape[k] * c.strides[k]
            index[k] = 0
            k -= 1
            index[k] += 1


cdef inline void copy_between(cnp.ndarray strided, cnp.ndarray contiguous, bint gathers) noexcept:
    # two arrays of one shape, of numbers of any kind, that share no memory
    cdef Copy c
    cdef int k, axis, axes = cnp.PyArray_NDIM(strided)
    cdef bint forwards = cnp.PyArray_IS_C_CONTIGUOUS(contiguous)
    c.strided, c.contiguous, c.gathers = cnp.PyArray_BYTES(strided), cnp.PyArray_BYTES(contiguous), gathers
    c.itemsize, c.size = cnp.PyArray_ITEMSIZE(strided), cnp.PyArray_SIZE(strided)
    c.axes, c.shape[0], c.strides[0] = 1, 1, 0
    for k in range(axes):
        axis = k if forwards else axes - 1 - k
        if cnp.PyArray_DIM(strided, axis) == 1:
            continue
        if c.shape[c.axes - 1] == 1:
            c.shape[c.axes - 1] = cnp.PyArray_DIM(strided, axis)
        elif c.strides[c.axes - 1] == cnp.PyArray_STRIDE(strided, axis) * cnp.PyArray_DIM(strided, axis):
            c.shape[c.axes - 1] *= cnp.PyArray_DIM(strided, axis)
        else:
            c.axes += 1
            c.shape[c.axes - 1] = cnp.PyArray_DIM(strided, axis)
        c.strides[c.axes - 1] = cnp.PyArray_STRIDE(strided, axis)
    run_jobs(copy_block, &c, (c.size + BLOCK - 1) // BLOCK)
