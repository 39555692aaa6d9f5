# Where an optimizer's parameters and state lie in memory, to find gradients that overlap them.

cdef class Memory:
    """Sorted, disjoint address ranges. `Memory(arrays)` takes contiguous arrays."""
    cdef uintptr_t* begin
    cdef uintptr_t* end
    cdef Py_ssize_t count
    cdef readonly bint overlapping       # two of the arrays share memory

    def __cinit__(self, arrays):
        cdef cnp.ndarray array
        cdef uintptr_t a, b
        ranges = sorted([(<uintptr_t> cnp.PyArray_DATA(array),
                          <uintptr_t> cnp.PyArray_DATA(array) + <uintptr_t> cnp.PyArray_NBYTES(array))
                         for array in arrays if cnp.PyArray_NBYTES(array)])
        self.begin = <uintptr_t*> PyMem_Malloc((len(ranges) + 1) * sizeof(uintptr_t))
        self.end = <uintptr_t*> PyMem_Malloc((len(ranges) + 1) * sizeof(uintptr_t))
        if not self.begin or not self.end:
            raise MemoryError
        for a, b in ranges:
            if self.count and a < self.end[self.count - 1]:
                self.overlapping = True
            if self.count and a <= self.end[self.count - 1]:
                self.end[self.count - 1] = max(b, self.end[self.count - 1])
                continue
            self.begin[self.count] = a
            self.end[self.count] = b
            self.count += 1

    def __dealloc__(self):
        PyMem_Free(self.begin)
        PyMem_Free(self.end)

    def overlaps(self, cnp.ndarray array not None) -> bool:
        # `array` is contiguous, as the ranges' arrays are
        cdef uintptr_t a = <uintptr_t> cnp.PyArray_DATA(array)
        cdef uintptr_t b = a + <uintptr_t> cnp.PyArray_NBYTES(array)
        cdef Py_ssize_t low = 0, high = self.count, middle
        while low < high:                # the first range that ends behind a
            middle = (low + high) >> 1
            if self.end[middle] > a:
                high = middle
            else:
                low = middle + 1
        return low < self.count and self.begin[low] < b
