# A plan is the pointer table of one parameter group (of one dtype): checked once, cut into spans for the threads.
#
# Parameters whose scalar state is equal form a class and run together; normally there is one class.  A parameter with
# a sparse gradient has, beyond its own row, a row of the pointer table for each of its rows that the gradient touches.

cdef enum:
    PART = 16384                 # elements a thread takes at a time; a span is at most this long
    TENSOR = 64                  # what visiting a tensor costs, in elements
    SKIPPED = -1


cdef class Plan:
    """Plan(leaves, slots, scalars, sparse): `slots` state arrays and `scalars` 0-d arrays (int64 or float64) per leaf.

    `sparse(leaf)` is asked before each step about a gradient that is no array: it returns indices and values, or a
    dense gradient to take in its place, or raises.
    """
    cdef readonly list leaves
    cdef Py_ssize_t count, slots, scalars
    cdef list kept               # keeps state arrays and scalars alive: the tables hold bare pointers
    cdef list copies             # row: an owned copy of a gradient that can't be used where it lies
    cdef Py_ssize_t n_copies
    cdef object sparse
    cdef list touched            # row: the Touched rows of a sparse gradient, or the array that is taken in its place
    cdef uint8_t* is_sparse      # row: has a sparse gradient
    cdef Py_ssize_t n_sparse
    cdef Py_ssize_t* begin       # row: the rows of the table that run for it: itself, or those that are touched
    cdef Py_ssize_t* end
    cdef Row* rows
    cdef int64_t** words         # row x scalar: where the scalar lies
    cdef uint8_t* is_float       # scalar: float64, else int64
    cdef uint8_t* attached       # row: has state
    cdef uint8_t* started        # row: has stepped with this state before
    cdef uint64_t* seen          # row: version of the gradient in the table
    cdef uint64_t assignments    # the process's count when the versions were looked at
    cdef bint unattached         # some row may have a gradient and no state
    cdef int32_t* label          # row: its class
    cdef bint unlabelled         # some row may have, or have no more, what its label says: a gradient
    # the cut, made again when labels change
    cdef bint stale
    cdef Span* spans
    cdef Py_ssize_t* part        # first span of each part
    cdef Py_ssize_t* first_part  # class: its first part
    cdef Py_ssize_t* member      # class: one of its rows
    cdef Py_ssize_t classes
    cdef bint side_by_side       # one class of all rows, and each scalar's words are an array, as `start` makes them

    def __cinit__(self, list leaves not None, Py_ssize_t slots, Py_ssize_t scalars, sparse=None):
        cdef Py_ssize_t n = len(leaves), i
        cdef Leaf leaf
        if slots > SLOTS:
            raise ValueError(f"a rule has at most {SLOTS} state slots, got {slots}")
        self.leaves, self.count, self.slots, self.scalars = leaves, n, slots, scalars
        self.kept, self.copies, self.touched, self.sparse = [None] * n, [None] * n, [None] * n, sparse
        self.rows = <Row*> PyMem_Calloc(n + 1, sizeof(Row))
        self.is_sparse = <uint8_t*> PyMem_Calloc(n + 1, 1)
        self.begin = <Py_ssize_t*> PyMem_Calloc(n + 1, sizeof(Py_ssize_t))
        self.end = <Py_ssize_t*> PyMem_Calloc(n + 1, sizeof(Py_ssize_t))
        self.words = <int64_t**> PyMem_Calloc(n * scalars + 1, sizeof(int64_t*))
        self.is_float = <uint8_t*> PyMem_Calloc(scalars + 1, 1)
        self.attached = <uint8_t*> PyMem_Calloc(n + 1, 1)
        self.started = <uint8_t*> PyMem_Calloc(n + 1, 1)
        self.seen = <uint64_t*> PyMem_Calloc(n + 1, sizeof(uint64_t))
        self.label = <int32_t*> PyMem_Calloc(n + 1, sizeof(int32_t))
        self.member = <Py_ssize_t*> PyMem_Calloc(n + 1, sizeof(Py_ssize_t))
        self.first_part = <Py_ssize_t*> PyMem_Calloc(n + 2, sizeof(Py_ssize_t))
        if not (self.rows and self.words and self.is_float and self.attached and self.started and self.seen
                and self.label and self.member and self.first_part and self.is_sparse and self.begin and self.end):
            raise MemoryError
        self.stale = self.unlabelled = True
        for i in range(n):
            leaf = leaves[i]
            self.rows[i].param = cnp.PyArray_DATA(leaf.array)
            self.rows[i].size = cnp.PyArray_SIZE(leaf.array)
            self.seen[i] = leaf.version - 1
            self.label[i] = SKIPPED
            self.begin[i], self.end[i] = i, i + 1

    def __dealloc__(self):
        PyMem_Free(self.rows)
        PyMem_Free(self.is_sparse)
        PyMem_Free(self.begin)
        PyMem_Free(self.end)
        PyMem_Free(self.words)
        PyMem_Free(self.is_float)
        PyMem_Free(self.attached)
        PyMem_Free(self.started)
        PyMem_Free(self.seen)
        PyMem_Free(self.label)
        PyMem_Free(self.member)
        PyMem_Free(self.first_part)
        PyMem_Free(self.spans)
        PyMem_Free(self.part)

    def attach(self, Py_ssize_t i, list arrays not None, list scalars not None, bint started):
        """Enters row i's state into the table; the caller has checked dtype, shape and layout."""
        cdef cnp.ndarray array
        cdef Py_ssize_t k
        for k, array in enumerate(arrays):
            self.rows[i].state[k] = cnp.PyArray_DATA(array)
        for k, array in enumerate(scalars):
            self.words[i * self.scalars + k] = <int64_t*> cnp.PyArray_DATA(array)
            self.is_float[k] = cnp.PyArray_ISFLOAT(array)
        self.kept[i] = (arrays, scalars)
        self.attached[i] = True
        self.started[i] = started

    def pending(self):
        """The rows that have a gradient and no state yet."""
        return [i for i in range(self.count) if self.rows[i].grad and not self.attached[i]]

    cpdef int bind(self, Memory memory) except -1:
        """Enters the gradients as they are now into the table.

        Inside `with stepping`, which keeps the gradients' memory in place.
        """
        cdef Py_ssize_t i
        cdef Leaf leaf
        if self.assignments != assignments:
            self.unattached = self.unlabelled = True
            for i in range(self.count):
                leaf = <Leaf> (<list> self.leaves)[i]
                if leaf.version != self.seen[i]:
                    self.rebind(i, leaf, memory)
            self.assignments = assignments
        if self.n_copies:
            for i in range(self.count):
                if self.copies[i] is not None:
                    np.copyto(self.copies[i], (<Leaf> self.leaves[i]).gradient)
        if self.n_sparse:
            self.touch(memory)
        return 0

    cpdef Py_ssize_t prepare(self) except? -2:
        """Returns the number of classes of the rows that `bind` gave a gradient; -1 where rows still need state."""
        cdef Py_ssize_t i
        if self.unattached:
            for i in range(self.count):
                if self.rows[i].grad and not self.attached[i]:
                    return -1
            self.unattached = False
        if self.n_sparse:
            self.point_states()
        if self.unlabelled or not self.still_alike():
            self.classify()
            self.unlabelled = False
        if self.stale:
            self.cut()
        return self.classes

    cdef int rebind(self, Py_ssize_t i, Leaf leaf, Memory memory) except -1:
        cdef cnp.ndarray gradient, copy
        if self.copies[i] is not None:
            self.copies[i] = None
            self.n_copies -= 1
        if self.is_sparse[i]:
            self.is_sparse[i], self.touched[i] = False, None
            self.n_sparse -= 1
            self.begin[i], self.end[i] = i, i + 1
            self.stale = True
        if leaf.gradient is None:
            self.rows[i].grad = NULL
        elif not isinstance(leaf.gradient, cnp.ndarray):
            self.rows[i].grad = self.rows[i].param       # there is one; `touch` says where
            self.is_sparse[i] = True
            self.n_sparse += 1
        else:
            gradient = leaf.gradient
            if same_layout(leaf.array, gradient) and not memory.overlaps(gradient):
                self.rows[i].grad = cnp.PyArray_DATA(gradient)
            else:                                # strided, misaligned, or overlapping a parameter or state
                copy = np.empty_like(leaf.array, subok=False)
                self.copies[i] = copy
                self.n_copies += 1
                self.rows[i].grad = cnp.PyArray_DATA(copy)
        self.seen[i] = leaf.version
        return 0

    def gradient(self, Py_ssize_t i):
        """Row i's gradient as kernels read it since `bind`: laid out as the parameter, overlapping none; or None."""
        if self.is_sparse[i]:
            return self.touched[i]
        return self.copies[i] if self.copies[i] is not None else (<Leaf> self.leaves[i]).gradient

    cdef int touch(self, Memory memory) except -1:
        # appends to the table what sparse gradients touch, anew for every step: their values may have changed in place
        cdef Py_ssize_t i, k, n = self.count
        cdef Touched touched
        cdef Row* rows
        cdef cnp.ndarray values
        self.stale = True
        for i in range(self.count):
            if not self.is_sparse[i]:
                continue
            found = self.sparse(self.leaves[i])
            if isinstance(found, cnp.ndarray):
                self.touched[i] = found
                self.rows[i].grad = cnp.PyArray_DATA(<cnp.ndarray> found)
                self.begin[i], self.end[i] = i, i + 1
                continue
            indices, values = found
            if memory.overlaps(values):
                values = values.copy()
            touched = self.touched[i] = Touched(indices, values, (<Leaf> self.leaves[i]).array)
            self.begin[i] = n
            n += touched.count
            self.end[i] = n
        rows = <Row*> PyMem_Realloc(self.rows, (n + 1) * sizeof(Row))
        if not rows:
            raise MemoryError
        self.rows = rows
        n = self.count
        for i in range(self.count):
            if self.begin[i] != i:
                touched = self.touched[i]
                values = (<Leaf> self.leaves[i]).array
                for k in range(touched.count):
                    rows[n].param = cnp.PyArray_BYTES(values) + touched.entries[k].row * cnp.PyArray_STRIDE(values, 0)
                    rows[n].grad = <void*> touched.entries[k].values
                    rows[n].size = self.rows[i].size // cnp.PyArray_DIM(values, 0)
                    n += 1
        return 0

    cdef void point_states(self) noexcept:
        # the rows of the state that belong to those of the parameters
        cdef Py_ssize_t i, k, slot
        for i in range(self.count):
            if self.begin[i] != i:
                for k in range(self.begin[i], self.end[i]):
                    for slot in range(self.slots):
                        self.rows[k].state[slot] = <char*> self.rows[i].state[slot] + (
                            <char*> self.rows[k].param - <char*> self.rows[i].param)

    cdef inline bint alike(self, Py_ssize_t i, Py_ssize_t j) noexcept:
        cdef Py_ssize_t k
        if self.started[i] != self.started[j]:
            return False
        for k in range(self.scalars):
            if self.words[i * self.scalars + k][0] != self.words[j * self.scalars + k][0]:
                return False
        return True

    cdef bint still_alike(self) noexcept:
        # whether the rows of each class have equal scalars, as always unless somebody set one
        cdef Py_ssize_t i, j, k
        cdef int64_t* word
        cdef int64_t differ = 0
        if self.side_by_side:
            for k in range(self.scalars):
                word = self.words[k]
                for i in range(self.count):
                    differ |= word[i] ^ word[0]
            for i in range(self.count):
                differ |= self.started[i] ^ self.started[0]
            return not differ
        for i in range(self.count):
            if self.label[i] != SKIPPED:
                j = self.member[self.label[i]]
                if self.started[i] != self.started[j]:
                    return False
                for k in range(self.scalars):
                    if self.words[i * self.scalars + k][0] != self.words[j * self.scalars + k][0]:
                        return False
        return True

    cdef void classify(self) noexcept:
        # labels each row with its class; the cut is stale if any label changed
        cdef Py_ssize_t i, tried
        cdef int32_t label = 0, count = 0
        for i in range(self.count):
            if not self.rows[i].grad:
                label = SKIPPED
            else:
                if label < 0:
                    label = 0
                for tried in range(count):       # starts with the class of the row before: normally the only one
                    if self.alike(i, self.member[label]):
                        break
                    label = label + 1 if label + 1 < count else 0
                else:
                    label = count
                    self.member[label] = i
                    count += 1
            if self.label[i] != label:
                self.label[i] = label
                self.stale = True
        if count != self.classes:
            self.classes = count
            self.stale = True

    cdef int cut(self) except -1:
        # spans, class by class, gathered into parts of about PART elements
        cdef Py_ssize_t i, k, n_spans = 0, n_parts = 0, begin, weight
        cdef int32_t c
        for i in range(self.count):
            for k in range(self.begin[i], self.end[i]):
                n_spans += self.rows[k].size // PART + 1
        PyMem_Free(self.spans)
        PyMem_Free(self.part)
        self.spans = <Span*> PyMem_Malloc((n_spans + 1) * sizeof(Span))
        self.part = <Py_ssize_t*> PyMem_Malloc((n_spans + 2) * sizeof(Py_ssize_t))
        if not (self.spans and self.part):
            raise MemoryError
        n_spans = 0
        for c in range(self.classes):
            self.first_part[c] = n_parts
            weight = PART
            for i in range(self.count):
                if self.label[i] != c:
                    continue
                for k in range(self.begin[i], self.end[i]):
                    begin = 0
                    while begin < self.rows[k].size:
                        if weight >= PART:
                            self.part[n_parts] = n_spans
                            n_parts += 1
                            weight = 0
                        self.spans[n_spans].row = k
                        self.spans[n_spans].begin = begin
                        begin = min(begin + PART, self.rows[k].size)
                        self.spans[n_spans].end = begin
                        weight += begin - self.spans[n_spans].begin + TENSOR
                        n_spans += 1
        self.first_part[self.classes] = n_parts
        self.part[n_parts] = n_spans
        self.side_by_side = self.classes == 1
        for i in range(self.count):
            if self.label[i] == SKIPPED:
                self.side_by_side = False
            for k in range(self.scalars):
                if self.words[i * self.scalars + k] != self.words[k] + i:
                    self.side_by_side = False
        self.stale = False
        return 0

    cpdef bint first(self, Py_ssize_t c):
        """Whether class c has never stepped before."""
        return not self.started[self.member[c]]

    cpdef dict values(self, Py_ssize_t c, tuple names):
        """The scalar state of class c: name and int or float."""
        cdef int64_t* word
        cdef Py_ssize_t k
        cdef dict result = {}
        for k in range(self.scalars):
            word = self.words[self.member[c] * self.scalars + k]
            if self.is_float[k]:
                result[names[k]] = (<double*> word)[0]
            else:
                result[names[k]] = word[0]
        return result

    cdef int store(self, Py_ssize_t c, dict scalars) except -1:
        # writes the scalar state of every row of class c
        cdef list values = list(scalars.values())
        cdef int64_t word
        cdef int64_t* block
        cdef double number
        cdef Py_ssize_t i, k
        for k in range(self.scalars):
            if self.is_float[k]:
                number = values[k]
                memcpy(&word, &number, sizeof(word))
            else:
                word = values[k]
            if self.side_by_side:
                block = self.words[k]
                for i in range(self.count):
                    block[i] = word
                continue
            for i in range(self.count):
                if self.label[i] == c:
                    self.words[i * self.scalars + k][0] = word
        if self.side_by_side:
            memset(self.started, True, self.count)
            return 0
        for i in range(self.count):
            if self.label[i] == c:
                self.started[i] = True
        return 0
