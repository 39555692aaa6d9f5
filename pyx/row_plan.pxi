# Rules that measure row by row: each row is an entry behind those of the parameters.

cdef class RowPlan(Plan):
    """A Plan that steps its parameters row by row, each an entry, so that rows have own numbers; first call `split`."""
    cdef Py_ssize_t* begin                # parameter: the first of its rows among the entries

    def __dealloc__(self):
        PyMem_Free(self.begin)

    def split(self, list rows not None):
        """Cuts each parameter into so many equal parts that lie side by side."""
        cdef Py_ssize_t n = self.count, i, k
        cdef Entry* entries
        self.begin = <Py_ssize_t*> PyMem_Malloc((self.count + 1) * sizeof(Py_ssize_t))
        entries = <Entry*> PyMem_Realloc(self.entries, (n + sum(rows) + 1) * sizeof(Entry))
        if entries:
            self.entries = entries
        if not (self.begin and entries):
            raise MemoryError
        memset(entries + n, 0, (sum(rows) + 1) * sizeof(Entry))
        for i in range(self.count):
            self.begin[i] = n
            n += rows[i] if self.entries[i].size else 0
            for k in range(self.begin[i], n):
                entries[k].size = entries[i].size // (n - self.begin[i])
                entries[k].param = self.part(entries[i].param, i, k)
        self.begin[self.count] = self.n_entries = n

    cdef void* part(self, void* array, Py_ssize_t i, Py_ssize_t k) noexcept:
        # where entry k begins in an array of parameter i's shape
        if array == NULL:
            return NULL
        return <char*> array + (k - self.begin[i]) * self.entries[k].size * self.kernel.row.itemsize

    def attach(self, Py_ssize_t i, list arrays not None, list scalars not None, bint has_stepped, tuple scales=()):
        cdef Py_ssize_t k
        cdef int slot
        Plan.attach(self, i, arrays, scalars, has_stepped, scales)
        for k in range(self.begin[i], self.begin[i + 1]):
            for slot in range(self.kernel.row.slots):
                self.entries[k].state[slot] = self.part(self.entries[i].state[slot], i, k)
            for slot in range(self.kernel.row.slots, self.states):           # a number for each row
                self.entries[k].state[slot] = (<char*> self.entries[i].state[slot]
                                               + (k - self.begin[i]) * self.kernel.row.itemsize)

    cdef bint rebind(self, Py_ssize_t i, ParameterCore parameter, AddressRanges memory) except -1:
        cdef Py_ssize_t k
        if not Plan.rebind(self, i, parameter, memory):
            return False
        for k in range(self.begin[i], self.begin[i + 1]):
            self.entries[k].grad = self.part(self.entries[i].grad, i, k)
        return True

    cdef bint steps_copy(self, Py_ssize_t i) noexcept:
        return self.gathered[i] is not None and self.entries[i].grad != NULL

    cdef Py_ssize_t first_entry(self, Py_ssize_t i) noexcept:
        return self.begin[i]

    cdef Py_ssize_t end_entry(self, Py_ssize_t i) noexcept:
        return self.begin[i + 1]
