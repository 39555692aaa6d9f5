# What every compiled module uses: a row of the kernel table, and the pool that runs jobs.

from .table cimport KernelRow, Kind

# One of several independent jobs; which thread takes it never changes a result.
ctypedef void (*Task)(void* context, Py_ssize_t job) noexcept nogil

cdef void run_jobs(Task task, void* context, Py_ssize_t jobs) noexcept


cdef class Kernel:
    cdef const KernelRow* row
    cdef readonly str name
    cdef readonly tuple fields           # names of a rule's coefficients, the common ones first
    cdef readonly tuple scalars          # and of those of what comes between two passes, which are float64
