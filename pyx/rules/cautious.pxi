# Cautious updates: only where update and gradient have the same sign, the larger for it.  Liang et al. 2024.

cdef inline void agreement(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    # y[0] is the update, then whether it counts
    y[0] = <real> (sign(y[0]) * sign(g) > <real> 0)


cdef bint larger_for_it(const double* c, const Sums* sums, double* state, Own* own) noexcept nogil:
    own.scale = own.scale / max(sums.of[0] / sums.count, 1e-3)
    own.against = 0.0
    return True


cdef void run_agreement(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: measure(agreement, 0, 1, w.tile)

measured(new_row("cautious", MODIFIER, {}, {}), run_agreement, (SUM,), TENSOR, larger_for_it).of_update = True
