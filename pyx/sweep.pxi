# The one loop over elements, for every rule.
#
# A rule and its number of slots reach the loop as constants, so that the compiler inlines the rule, drops the slots
# it doesn't have, and vectorises what remains.

cdef struct Common:              # what every rule shares; stands before the rule's own struct
    real grad_scale              # unscaling, clipping by norm, averaging; negative to maximize
    real limit                   # clipping by value
    real l2                      # coupled weight decay


cdef inline real finish(real g, real grad_scale, real limit) noexcept nogil:
    g = grad_scale * g
    g = limit if g > limit else g                    # comparisons are false for NaN, so NaN stays
    return -limit if g < -limit else g


cdef inline void stretch(Rule rule, int slots, const Common* common, const void* hyper, Py_ssize_t n, real_array p,
                         const_real_array g, real_array s0, real_array s1, real_array s2, real_array s3,
                         real_array s4) noexcept nogil:
    cdef real grad_scale = common.grad_scale, limit = common.limit, l2 = common.l2
    cdef bint coupled = l2 != <real> 0
    cdef real x, grad
    cdef real s[SLOTS]
    cdef Py_ssize_t i
    for i in range(n):
        x = p[i]
        grad = finish(g[i], grad_scale, limit)
        grad = grad + l2 * x if coupled else grad      # not `+ 0 * x`: an infinite parameter would turn NaN
        if slots > 0: s[0] = s0[i]
        if slots > 1: s[1] = s1[i]
        if slots > 2: s[2] = s2[i]
        if slots > 3: s[3] = s3[i]
        if slots > 4: s[4] = s4[i]
        rule(hyper, &x, grad, s)
        p[i] = x
        if slots > 0: s0[i] = s[0]
        if slots > 1: s1[i] = s[1]
        if slots > 2: s2[i] = s[2]
        if slots > 3: s3[i] = s[3]
        if slots > 4: s4[i] = s[4]


cdef inline void sweep(Rule rule, int slots, const Work* work, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    # A copy: stores to arrays can't reach it, so the compiler reads a coefficient once, not once for each tensor.
    cdef real hyper[HYPER]
    cdef const Row* row
    cdef Py_ssize_t k, at, n
    memcpy(hyper, work.hyper, sizeof(hyper))
    for k in range(first, last):
        row = &work.rows[work.spans[k].row]
        at = work.spans[k].begin
        n = work.spans[k].end - at
        stretch(rule, slots, <const Common*> hyper, <const char*> hyper + sizeof(Common), n,
                (<real*> row.param) + at, (<const real*> row.grad) + at,
                (<real*> row.state[0]) + at, (<real*> row.state[1]) + at, (<real*> row.state[2]) + at,
                (<real*> row.state[3]) + at, (<real*> row.state[4]) + at)
        if work.zero_grad:       # the span is still in the cache: only the write back is paid
            memset((<real*> row.grad) + at, 0, n * sizeof(real))


cdef void bind(str name, Sweep run, int slots, dict fields):
    # `fields` is the rule's struct, which Cython turns into a dict of its names in order.
    RULES[name] = PyCapsule_New(<void*> run, "optimlite.sweep", NULL), slots, (*COMMON, *fields), sizeof(real)
