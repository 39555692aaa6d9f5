# Not an update: every way of combining numbers, so that tests see what arrives.

from .table cimport LARGEST

cdef struct Probe:
    real number[4]               # the tensor's own

cdef struct ProbeScalars:
    double least                 # of the sum, below which the last pass is cancelled


cdef inline void probe_numbers(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    y[0], y[1], y[2], y[3] = g, g, g, p


cdef bint probe_between(const double* c, const Sums* sums, double* state, Own* own) noexcept nogil:
    cdef int k
    for k in range(4):
        own.field[k] = sums.of[k]
    if sums.of[0] < (<const ProbeScalars*> c).least:
        return False
    if state != NULL:
        state[0] = state[0] + sums.of[0]
    return True


cdef inline real probe(const void* hyper, real p, real g, real* s) noexcept nogil:
    cdef const Probe* h = <const Probe*> hyper
    s[0], s[1], s[2], s[3] = h.number[0], h.number[1], h.number[2], h.number[3]
    return g


cdef void run_probe_numbers(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    measure(probe_numbers, 4, 4, w.tile)
cdef void run_probe(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: last_pass(probe, 4, w.tile)

cdef dict probe_fields = {"number0": 0, "number1": 0, "number2": 0, "number3": 0}
cdef ProbeScalars probe_scalars
measured(owns(4, bind("probe_tensor", run_probe, 4, probe_fields, probe_scalars)),
         run_probe_numbers, (SUM, SQUARES, PRODUCTS, LARGEST), TENSOR, probe_between)
measured(owns(4, bind("probe_own", run_probe, 4, probe_fields, probe_scalars), 1),
         run_probe_numbers, (SUM, SQUARES, PRODUCTS, LARGEST), TENSOR, probe_between)
measured(owns(4, bind("probe_group", run_probe, 4, probe_fields, probe_scalars)),
         run_probe_numbers, (SUM, SQUARES, PRODUCTS, LARGEST), GROUP, probe_between)
measured(owns(4, bind("probe_everything", run_probe, 4, probe_fields, probe_scalars)),
         run_probe_numbers, (SUM, SQUARES, PRODUCTS, LARGEST), EVERYTHING, probe_between)
