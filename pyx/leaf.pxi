# A leaf is the compiled half of a Parameter: its array, and the gradient that was assigned last.

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


cdef uint64_t assignments = 1    # counts changes of gradients in the process: plans look again when it moved
cdef int64_t steps_begun = 0     # each step has a ticket: the count when it began
cdef list under_way = []         # tickets of the steps that have gradients' addresses in use, oldest first
cdef list retired = []           # (last ticket then, gradient): replaced while steps were under way, kept till they end


cdef class Leaf:
    """A float array that is updated in place, and its gradient.

    The subclass's `accepts` is asked about gradients that aren't plain arrays which fit: it returns one or raises.
    """
    cdef readonly cnp.ndarray array
    cdef object gradient
    cdef object anchor           # the gradient once more, and the array: NumPy resizes no array with two references,
    cdef object array_anchor     # so plans may keep their addresses
    cdef uint64_t version        # of the gradient
    cdef object __weakref__

    def __init__(self, cnp.ndarray array not None):
        if self.array is not None:
            raise RuntimeError("a Parameter keeps its array for life; assign to .data to copy values into it")
        self.array = self.array_anchor = array
        self.gradient = None

    cdef void replace(self, gradient) noexcept:
        global assignments
        if under_way and self.gradient is not None:
            retired.append((steps_begun, self.gradient))
        self.gradient = self.anchor = gradient
        self.version += 1
        assignments += 1

    @property
    def grad(self):
        """The gradient: None, or an array of the parameter's shape and dtype."""
        return self.gradient

    @grad.setter
    def grad(self, value):
        if value is self.gradient:
            return
        if value is not None and not (cnp.PyArray_CheckExact(value) and fits(<cnp.ndarray> value, self.array)):
            value = self.accepts(value)
        self.replace(value)

    @grad.deleter
    def grad(self):
        self.replace(None)


def forget_gradients(leaves):
    """Sets every gradient to None."""
    cdef Leaf leaf
    for leaf in leaves:
        if leaf.gradient is not None:
            leaf.replace(None)


cdef class Stepping:
    """`with stepping:` no gradient's memory goes away, whoever assigns another one meanwhile, and no other step begins.

    A `with` statement on a compiled object, since an interrupt can strike between the lines of Python code before `try`
    and in `finally`, and an optimizer that was interrupted there would never step again.
    """
    cdef int64_t ticket                  # 0 outside of steps

    def __enter__(self):
        global steps_begun
        if self.ticket:
            raise RuntimeError("this optimizer is already stepping in another thread; "
                               "step it from one thread at a time, or use one optimizer per thread")
        under_way.append(steps_begun + 1)
        steps_begun += 1
        self.ticket = steps_begun

    def __exit__(self, kind, value, trace):
        cdef int64_t ticket = self.ticket
        self.ticket = 0
        if ticket in under_way:          # not in a child that was forked in between
            under_way.remove(ticket)
        while retired and (not under_way or retired[0][0] < under_way[0]):
            del retired[0]


def forget_steps() -> None:
    """In a child after fork: the steps of the parent's other threads don't go on here."""
    under_way.clear()
    retired.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_steps)


def assign_gradients(list leaves not None, list gradients not None):
    """leaf.grad = gradient for each pair: all are checked before the first is assigned."""
    cdef Leaf leaf
    cdef Py_ssize_t i
    for i in range(len(leaves)):
        leaf = leaves[i]
        value = gradients[i]
        if value is not None and not (cnp.PyArray_CheckExact(value) and fits(<cnp.ndarray> value, leaf.array)):
            gradients[i] = leaf.accepts(value)
    for i in range(len(leaves)):
        leaf = leaves[i]
        leaf.grad = gradients[i]
