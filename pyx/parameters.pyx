# A parameter and its gradient, what steps keep alive of them, and where arrays lie in memory.

import os

cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uintptr_t

cnp.import_array()


cdef extern from "shared.h":
    ctypedef struct shared_lock:
        pass
    void shared_acquire(shared_lock* lock) noexcept
    void shared_release(shared_lock* lock) noexcept

assignments = 1                  # of gradients in the process: plans look again when this moved
cdef shared_lock guard           # of each gradient's reference, and of what follows; Python's own, where it has one
cdef int64_t steps_begun = 0     # each step has a ticket: the count when it began
cdef list under_way = []         # tickets of the steps that have gradients' addresses in use, oldest first
cdef list retired = []           # (last ticket then, gradient): replaced while steps were under way, kept till they end


cdef class ParameterCore:
    """A float array that is updated in place, and its gradient.

    The subclass's `accepts` is asked about gradients that aren't plain arrays which fit: it returns one or raises.
    """

    def __init__(self, cnp.ndarray array not None):
        if self.array is not None:
            raise RuntimeError("a Parameter keeps its array for life; assign to .data to copy values into it")
        self.array = self.array_reference = array
        self.gradient = None

    cdef void replace(self, gradient) noexcept:
        global assignments
        shared_acquire(&guard)
        old = self.gradient              # freed behind the lock: that may run anybody's code
        retire(old)
        self.gradient = self.extra_reference = gradient
        self.version += 1
        assignments += 1
        shared_release(&guard)

    @property
    def grad(self):
        """The gradient: None, or an array of the parameter's shape and dtype."""
        return self.taken()

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

    cdef object taken(self):
        shared_acquire(&guard)
        gradient = self.gradient
        shared_release(&guard)
        return gradient


cdef void retire(gradient) noexcept:
    if under_way and gradient is not None:
        retired.append((steps_begun, gradient))


def forget_gradients(parameters):
    """Sets every gradient to None."""
    cdef ParameterCore parameter
    for parameter in parameters:
        if parameter.gradient is not None:
            parameter.replace(None)


cdef class Stepping:
    """`with stepping:` no gradient's memory goes away, whoever assigns another one meanwhile, and no other step begins.

    A `with` statement on a compiled object, since an interrupt can strike between the lines of Python code before `try`
    and in `finally`, and an optimizer that was interrupted there would never step again.
    """
    cdef int64_t ticket                  # 0 outside of steps

    def __enter__(self):
        global steps_begun
        shared_acquire(&guard)
        try:
            if self.ticket and self.ticket in under_way:         # else of a parent's step, which doesn't go on here
                raise RuntimeError("this optimizer is already stepping in another thread; "
                                   "step it from one thread at a time, or use one optimizer per thread")
            under_way.append(steps_begun + 1)
            steps_begun += 1
            self.ticket = steps_begun
        finally:
            shared_release(&guard)

    def __exit__(self, kind, value, trace):
        cdef Py_ssize_t n = 0
        freed = None                     # behind the lock, as in `replace`
        shared_acquire(&guard)
        try:
            if self.ticket in under_way:         # not in a child that was forked in between
                under_way.remove(self.ticket)
            self.ticket = 0
            while n < len(retired) and (not under_way or retired[n][0] < under_way[0]):
                n += 1
            if n:
                freed = retired[:n]
                del retired[:n]
        finally:
            shared_release(&guard)


def forget_steps() -> None:
    """In a child after fork: the steps of the parent's other threads don't go on here."""
    under_way.clear()
    retired.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_steps)


def assign_gradients(list parameters not None, list gradients not None):
    """parameter.grad = gradient for each pair: all are checked before the first is assigned."""
    cdef ParameterCore parameter
    cdef Py_ssize_t i
    for i in range(len(parameters)):
        parameter = parameters[i]
        value = gradients[i]
        if value is not None and not (cnp.PyArray_CheckExact(value) and fits(<cnp.ndarray> value, parameter.array)):
            gradients[i] = parameter.accepts(value)
    for i in range(len(parameters)):
        parameter = parameters[i]
        parameter.grad = gradients[i]


# Where parameters and state lie in memory ----------------------------------------------------------------------------

def byte_bounds(cnp.ndarray array not None) -> tuple:
    """The addresses where an array begins and ends in memory; equal if it is empty."""
    cdef uintptr_t begin, end
    find_bounds(array, &begin, &end)
    return begin, end


cdef class AddressRanges:
    """Sorted, disjoint address ranges. A strided array counts from its first element to its last."""

    def __cinit__(self, arrays):
        cdef cnp.ndarray array
        cdef uintptr_t a, b
        ranges = sorted([byte_bounds(array) for array in arrays if cnp.PyArray_SIZE(<cnp.ndarray?> array)])
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

    cpdef bint overlaps(self, cnp.ndarray array) except -1:
        if array is None:
            raise TypeError("`array` must be an array, got None")
        cdef uintptr_t a, b
        cdef Py_ssize_t low = 0, high = self.count, middle
        find_bounds(array, &a, &b)
        while low < high:                # the first range that ends behind a
            middle = (low + high) >> 1
            if self.end[middle] > a:
                high = middle
            else:
                low = middle + 1
        return low < self.count and self.begin[low] < b
