# Adam-mini: Adam with one second moment for each block of a parameter.  Zhang et al. 2024.
#
# It has Adam's coefficients, since elements that are blocks of their own are stepped by `adam`; a block's own is the
# first, step_size, over the root of its second moment.

cdef void adam_mini_moments(const void* hyper, const double* c, const double* sums, Py_ssize_t rows,
                            const Entry* entries, Own* own) noexcept nogil:
    cdef const Adam* h = <const Adam*> hyper
    cdef real* v = <real*> entries.state[1]
    cdef Py_ssize_t r
    for r in range(rows):
        v[r] = h.beta2 * v[r] + h.fresh2 * <real> (sums[r * NUMBERS] / entries.size)
        own[r].field[0] = h.step_size / (sqrt(v[r]) * h.inv_root_bias2 + h.eps)


cdef inline real adam_mini(const void* hyper, real p, real g, real* m) noexcept nogil:
    cdef const Adam* h = <const Adam*> hyper
    m[0] = h.beta1 * m[0] + h.fresh1 * g
    return h.step_size * m[0]


cdef void run_adam_mini(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: last_pass(adam_mini, 1, w.tile)

cdef KernelRow* adam_mini_row = owns(1, bind("adam_mini", run_adam_mini, 1, "Adam"))
measured_rows(adam_mini_row, run_gradient, adam_mini_moments, 1, SQUARES)
adam_mini_row.passes[0].state_unread = True
bind("adam_mini_elements", run_adam, 2, "Adam").by_rows = True      # laid out as the others are
