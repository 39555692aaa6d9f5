# The pointer table of a group, and how it is cut for the threads.

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from .parameters cimport AddressRanges, ParameterCore
from .runtime cimport Kernel
from .table cimport SLOTS, Beside, Entry, Lines, Scales, Span

cdef enum:
    TENSOR_COST = 64             # what visiting a tensor costs, in elements


cdef struct Cut:                 # what threads take: spans gathered into jobs of about BLOCK elements
    Span* spans
    Py_ssize_t* first_span       # of each job
    Py_ssize_t* first_job        # of each cohort
    Py_ssize_t n_spans
    Py_ssize_t n_jobs
    Py_ssize_t weight            # of the job that is being filled


cdef class Plan:
    cdef readonly list parameters
    cdef readonly Kernel kernel
    cdef public Kernel first_kernel      # the rule of a parameter's first step, or None
    cdef public Kernel modifier          # which measures the update and scales it, or None
    cdef public bint cautious_decay      # decay is for elements that it and the update move the same way
    cdef public dict formats             # how state arrays are stored, by name: those that aren't of the float type,
    cdef readonly list stored            # and by slot; None: all are
    cdef readonly bint rounds            # something is stored in fewer bits:
    cdef readonly uint64_t seed          # of the rounding,
    cdef readonly bint nearest           # unless it is to the nearest
    cdef public dict slots               # state arrays: name and initial value
    cdef Py_ssize_t count, scalars, states
    cdef Py_ssize_t shared               # scalars that a cohort has in common; those behind them are a tensor's own
    cdef int state_itemsize[SLOTS]
    cdef Entry* entries                  # of each parameter; behind them may be those that a SparsePlan adds
    cdef Py_ssize_t n_entries
    cdef Scales* scales                  # of each entry's state, or NULL
    cdef Py_ssize_t* offsets             # parameter: where it begins in its tensor; NULL: all are whole
    cdef public object reads             # function of a dtype: the format by which gradients of it are read, or None
    cdef list shadows                    # parameter: the copy in 16 bits that steps write, or what it lacks; or None
    cdef int real_type                   # NumPy's number of the float type of gradients that need no decoding
    cdef Beside* beside                  # of each parameter, or NULL
    cdef Lines* lines                    # of each parameter, where the kernel works by rows and columns
    cdef list keep_alive                 # state arrays and scalars: the tables hold bare pointers
    cdef list copies                     # parameter: an owned copy of a gradient that can't be used where it lies
    cdef Py_ssize_t n_copies
    cdef list gathered                   # parameter: a copy to step, where its own elements don't lie side by side
    cdef list scattered                  # parameter: a view of its own elements then, whose shape nobody else changes
    cdef Py_ssize_t n_gathered
    cdef int64_t** scalar_address        # parameter x scalar
    cdef uint8_t* is_float               # scalar: float64, else int64
    cdef uint8_t* has_state              # parameter
    cdef uint8_t* has_stepped            # parameter: with this state
    cdef uint64_t* bound_version         # parameter: of the gradient in the table
    cdef uint64_t bound_assignments      # the process's count when the versions were looked at
    cdef ParameterCore locked            # one that is read-only now, or None
    cdef bint some_without_state         # a parameter may have a gradient and no state
    cdef int32_t* cohort_of              # parameter
    cdef bint gradients_changed          # a gradient may have appeared or vanished since `classify`
    cdef Py_ssize_t cohorts
    cdef Py_ssize_t* representative      # cohort: one of its parameters
    cdef bint contiguous_scalars         # one cohort of all parameters, each scalar an array in memory: the fast path
    # made again when cohorts change
    cdef bint stale
    cdef Cut cut
    cdef Cut line_cut                    # of whole matrices, or of tiles
    cdef Cut matrix_cut                  # of large matrices

    cdef int place(self, Py_ssize_t i, cnp.ndarray array) except -1
    cpdef bint bind(self, AddressRanges memory) except -1
    cdef bint rebind(self, Py_ssize_t i, ParameterCore parameter, AddressRanges memory) except -1
    cdef int make_beside(self) except -1
    cdef int read_as(self, Py_ssize_t i, ParameterCore parameter, cnp.ndarray gradient) except -1
    cdef Py_ssize_t gradient_itemsize(self, Py_ssize_t i) noexcept
    cdef bint usable(self, Py_ssize_t i, cnp.ndarray array, cnp.ndarray gradient) noexcept
    cdef bint steps_copy(self, Py_ssize_t i) noexcept
    cdef void gather(self) noexcept
    cdef void scatter(self) noexcept
    cpdef Py_ssize_t prepare(self) except? -2
    cdef bint alike(self, Py_ssize_t i, Py_ssize_t j) noexcept
    cdef bint still_alike(self) noexcept
    cdef void classify(self) noexcept
    cdef int make_cuts(self) except -1
    cdef int make_room(self, Lines* lines) except -1
    cpdef bint first(self, Py_ssize_t cohort)
    cpdef dict values(self, Py_ssize_t cohort, tuple names)
    cdef int stage(self, dict scalars, int64_t* words) except -1
    cdef void store(self, Py_ssize_t cohort, const int64_t* words) noexcept
    cdef double* own_scalars(self, Py_ssize_t i, double* values) noexcept
    cdef void store_own(self, Py_ssize_t i, const double* values) noexcept
    # of a SparsePlan
    cdef Py_ssize_t first_entry(self, Py_ssize_t i) noexcept
    cdef Py_ssize_t end_entry(self, Py_ssize_t i) noexcept
    cdef bint is_sparse(self, Py_ssize_t i) noexcept
    cdef void point_states(self) noexcept


cdef class SparsePlan(Plan):
    cdef list touched                    # parameter: its SparseRows, or the array that is taken in the gradient's place
    cdef uint8_t* sparse_at              # parameter: has a sparse gradient
    cdef Py_ssize_t n_sparse
    cdef Py_ssize_t* begin               # parameter: the entries that are stepped for it
    cdef Py_ssize_t* end

    cdef int touch(self, AddressRanges memory, sparse) except -1
