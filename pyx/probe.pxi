# What a watched step has measured, parameter by parameter: see watched.pxd.

cdef class Probe:
    """Probe(each): filled by a step that is given one.

    `gradient`, `before`, `change`: the sums of squares of gradients as they are bound, neither scaled nor clipped, of
    what parameters were, and of what they have moved by.  `parameters`: which, if `each` asks for the sums of each;
    `rows` has them.  A sparse gradient's parameter is the rows that it touches.
    """
    cdef readonly double gradient, before, change
    cdef readonly list parameters
    cdef bint each
    cdef double* squares         # MOVED of each of the parameters: numbers become objects where they are read
    cdef Py_ssize_t room

    def __cinit__(self, bint each):
        self.parameters, self.each = [], each

    def __dealloc__(self):
        PyMem_Free(self.squares)

    cdef int add(self, parameter, const double* sums) except -1:
        cdef Py_ssize_t n = len(self.parameters)
        cdef double* larger
        self.gradient += sums[0]
        self.before += sums[1]
        self.change += sums[2]
        if not self.each:
            return 0
        if n == self.room:
            larger = <double*> PyMem_Realloc(self.squares, (2 * n + 64) * MOVED * sizeof(double))
            if not larger:
                raise MemoryError
            self.squares, self.room = larger, 2 * n + 64
        memcpy(&self.squares[n * MOVED], sums, MOVED * sizeof(double))
        self.parameters.append(parameter)
        return 0

    def rows(self) -> list:
        """Of each parameter: it, and the squares of its gradient, of what it was and of what it has moved by."""
        cdef Py_ssize_t k
        return [(parameter, self.squares[k * MOVED], self.squares[k * MOVED + 1], self.squares[k * MOVED + 2])
                for k, parameter in enumerate(self.parameters)]
