# Modifiers: what changes the updates of any rule.  Cautious: Liang et al. 2024; limited: Shazeer & Stern 2018.

cdef struct Limit:
    double largest_rms           # of a tensor's update
    double masked                # whether it is cautious, too


cdef inline void agreement(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    # y[0] is the update, then whether it counts
    y[0] = <real> (sign(y[0]) * sign(g) > <real> 0)


cdef bint larger_for_it(const double* c, const Sums* sums, double* state, Own* own) noexcept nogil:
    own.scale = own.scale / max(sums.of[0] / sums.count, 1e-3)
    own.against = 0.0
    return True


cdef inline void sizes_of_update(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    # y[1] is the update, y[2] what of it counts
    y[1] = y[0]
    agreement(hyper, p, g, s, y)
    y[2] = y[0] * y[1]


cdef bint within_limit(const double* c, const Sums* sums, double* state, Own* own) noexcept nogil:
    # What is limited is scale * update, the step itself; one of NaN stays as it is.
    cdef const Limit* h = <const Limit*> c
    cdef double rms
    if h.masked != 0.0:
        larger_for_it(c, sums, state, own)
    rms = own.scale * double_sqrt((sums.of[2] if h.masked != 0.0 else sums.of[1]) / sums.count)
    if rms > h.largest_rms:
        own.scale = own.scale * (h.largest_rms / rms)
        own.against = 0.0 if h.masked != 0.0 else own.scale
    return True


cdef void run_agreement(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: measure(agreement, 0, 1, w.tile)
cdef void run_sizes_of_update(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    measure(sizes_of_update, 0, 3, w.tile)

measured(new_row("cautious", MODIFIER), run_agreement, TENSOR, larger_for_it, SUM).of_update = True
measured(new_row("limited", MODIFIER, "", "Limit"), run_sizes_of_update, TENSOR, within_limit,
         SUM, SQUARES, SQUARES).of_update = True
