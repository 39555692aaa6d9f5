# Arrays change places: in one call, so that an interrupt finds all of them changed or none.

cdef void exchange_bytes(char* a, char* b, Py_ssize_t n) noexcept nogil:
    cdef char[4096] between
    cdef Py_ssize_t at = 0, part
    while at < n:
        part = min(<Py_ssize_t> sizeof(between), n - at)
        memcpy(between, a + at, part)
        memcpy(a + at, b + at, part)
        memcpy(b + at, between, part)
        at += part


def exchange(list pairs not None) -> None:
    """Exchanges the values of each pair of contiguous arrays, which have one dtype, shape and layout."""
    cdef cnp.ndarray a, b
    cdef char* x
    cdef char* y
    cdef Py_ssize_t n
    for a, b in pairs:
        x, y, n = cnp.PyArray_BYTES(a), cnp.PyArray_BYTES(b), cnp.PyArray_NBYTES(a)
        with nogil:
            exchange_bytes(x, y, n)
