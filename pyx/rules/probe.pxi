# Not an update: every way of combining numbers, so that tests see what arrives.

from .table cimport LARGEST

cdef struct Probe:
    real number0                 # the tensor's own
    real number1
    real number2
    real number3

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
    s[0], s[1], s[2], s[3] = h.number0, h.number1, h.number2, h.number3
    return g


cdef void run_probe_numbers(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    measure(probe_numbers, 4, 4, w.tile)
cdef void run_probe(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: last_pass(probe, 4, w.tile)

measured(owns(4, bind("probe_tensor", run_probe, 4, "Probe", "ProbeScalars")),
         run_probe_numbers, TENSOR, probe_between, SUM, SQUARES, PRODUCTS, LARGEST)
measured(owns(4, bind("probe_own", run_probe, 4, "Probe", "ProbeScalars"), 1),
         run_probe_numbers, TENSOR, probe_between, SUM, SQUARES, PRODUCTS, LARGEST)
measured(owns(4, bind("probe_group", run_probe, 4, "Probe", "ProbeScalars")),
         run_probe_numbers, GROUP, probe_between, SUM, SQUARES, PRODUCTS, LARGEST)
measured(owns(4, bind("probe_everything", run_probe, 4, "Probe", "ProbeScalars")),
         run_probe_numbers, EVERYTHING, probe_between, SUM, SQUARES, PRODUCTS, LARGEST)
