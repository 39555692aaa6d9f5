# The one loop over elements, for every rule.
#
# A rule and its number of slots reach the loop as constants, so that the compiler inlines the rule, drops the slots
# it doesn't have, and vectorises what remains.
#
# A rule is one of three kinds of formula for one element: p is the parameter, s points to its state, g is the finished
# gradient.  An update moves the state and returns what the loop subtracts from the parameter.  A measure returns up to
# four numbers in y, and may move the state.  Few rules must write the parameter themselves.

from libc.string cimport memcpy, memset

from .real cimport const_real_array, real, real_array
from .table cimport HYPER, NUMBERS, SLOTS, Entry, Work, Tile

ctypedef real (*Update)(const void* hyper, real p, real g, real* s) noexcept nogil
ctypedef void (*Measure)(const void* hyper, real p, real g, real* s, real* y) noexcept nogil
ctypedef void (*Whole)(const void* hyper, real* p, real g, real* s) noexcept nogil

cdef struct Common:              # what every rule shares; stands before the rule's own struct
    real grad_scale              # unscaling, clipping by norm, averaging; negative to maximize
    real max_abs                 # clipping by value
    real l2                      # coupled weight decay
    real keep                    # decoupled weight decay: p = keep * p - update


cdef inline real scale_and_clip(real g, real grad_scale, real max_abs) noexcept nogil:
    g = grad_scale * g
    g = max_abs if g > max_abs else g                # comparisons are false for NaN, so NaN stays
    return -max_abs if g < -max_abs else g


cdef inline void update_span(Update update, Whole whole, int slots, const Common* common, const void* hyper,
                             Py_ssize_t n, real_array p, const_real_array g, real_array s0, real_array s1,
                             real_array s2, real_array s3, real_array s4) noexcept nogil:
    # of `update` and `whole` one is NULL
    cdef real grad_scale = common.grad_scale, max_abs = common.max_abs, l2 = common.l2, keep = common.keep
    cdef bint coupled = l2 != <real> 0
    cdef real x, grad
    cdef real s[SLOTS]
    cdef Py_ssize_t i
    for i in range(n):
        x = p[i]
        grad = scale_and_clip(g[i], grad_scale, max_abs)
        grad = grad + l2 * x if coupled else grad
        if slots > 0: s[0] = s0[i]
        if slots > 1: s[1] = s1[i]
        if slots > 2: s[2] = s2[i]
        if slots > 3: s[3] = s3[i]
        if slots > 4: s[4] = s4[i]
        if whole != NULL:
            whole(hyper, &x, grad, s)
        else:
            x = keep * x - update(hyper, x, grad, s)
        p[i] = x
        if slots > 0: s0[i] = s[0]
        if slots > 1: s1[i] = s[1]
        if slots > 2: s2[i] = s[2]
        if slots > 3: s3[i] = s[3]
        if slots > 4: s4[i] = s[4]


cdef inline void sweep_spans(Update update, Whole whole, int slots, const Work* work, Py_ssize_t first,
                             Py_ssize_t last) noexcept nogil:
    # A copy: stores to arrays can't reach it, so the compiler reads a coefficient once, not once for each tensor.
    cdef real hyper[HYPER]
    cdef const Entry* entry
    cdef Py_ssize_t k, at, n
    memcpy(hyper, work.hyper, sizeof(hyper))
    for k in range(first, last):
        entry = &work.entries[work.spans[k].entry]
        at = work.spans[k].begin
        n = work.spans[k].end - at
        update_span(update, whole, slots, <const Common*> hyper, <const char*> hyper + sizeof(Common), n,
                    (<real*> entry.param) + at, (<const real*> entry.grad) + at,
                    (<real*> entry.state[0]) + at, (<real*> entry.state[1]) + at, (<real*> entry.state[2]) + at,
                    (<real*> entry.state[3]) + at, (<real*> entry.state[4]) + at)
        if work.zero_grad:  # the span is still in the cache: only the write back is paid
            memset((<real*> entry.grad) + at, 0, n * sizeof(real))


# The same for a tile of elements, wherever they are: the gradient is finished already, the state, decoded or in place,
# moves there, and what the rule yields goes to y.

cdef inline void yield_update(Update update, int slots, const void* hyper, Py_ssize_t n, const_real_array p,
                              const_real_array g, real_array s0, real_array s1, real_array s2, real_array s3,
                              real_array s4, real_array y) noexcept nogil:
    cdef real s[SLOTS]
    cdef Py_ssize_t i
    for i in range(n):
        if slots > 0: s[0] = s0[i]
        if slots > 1: s[1] = s1[i]
        if slots > 2: s[2] = s2[i]
        if slots > 3: s[3] = s3[i]
        if slots > 4: s[4] = s4[i]
        y[i] = update(hyper, p[i], g[i], s)
        if slots > 0: s0[i] = s[0]
        if slots > 1: s1[i] = s[1]
        if slots > 2: s2[i] = s[2]
        if slots > 3: s3[i] = s[3]
        if slots > 4: s4[i] = s[4]


cdef inline void yield_numbers(Measure measure, int slots, int numbers, const void* hyper, Py_ssize_t n,
                               const_real_array p, const_real_array g, real_array s0, real_array s1, real_array s2,
                               real_array s3, real_array s4, real_array y0, real_array y1, real_array y2,
                               real_array y3) noexcept nogil:
    cdef real s[SLOTS]
    cdef real y[NUMBERS]
    cdef Py_ssize_t i
    for i in range(n):
        if slots > 0: s[0] = s0[i]
        if slots > 1: s[1] = s1[i]
        if slots > 2: s[2] = s2[i]
        if slots > 3: s[3] = s3[i]
        if slots > 4: s[4] = s4[i]
        y[0] = y0[i]                     # the update, where it has been yielded before
        measure(hyper, p[i], g[i], s, y)
        if numbers > 0: y0[i] = y[0]
        if numbers > 1: y1[i] = y[1]
        if numbers > 2: y2[i] = y[2]
        if numbers > 3: y3[i] = y[3]
        if slots > 0: s0[i] = s[0]
        if slots > 1: s1[i] = s[1]
        if slots > 2: s2[i] = s[2]
        if slots > 3: s3[i] = s[3]
        if slots > 4: s4[i] = s[4]


cdef inline void write_parameter(Whole whole, int slots, const void* hyper, Py_ssize_t n, real_array p,
                                 const_real_array g, real_array s0, real_array s1, real_array s2, real_array s3,
                                 real_array s4) noexcept nogil:
    cdef real x
    cdef real s[SLOTS]
    cdef Py_ssize_t i
    for i in range(n):
        x = p[i]
        if slots > 0: s[0] = s0[i]
        if slots > 1: s[1] = s1[i]
        if slots > 2: s[2] = s2[i]
        if slots > 3: s[3] = s3[i]
        if slots > 4: s[4] = s4[i]
        whole(hyper, &x, g[i], s)
        p[i] = x
        if slots > 0: s0[i] = s[0]
        if slots > 1: s1[i] = s[1]
        if slots > 2: s2[i] = s[2]
        if slots > 3: s3[i] = s[3]
        if slots > 4: s4[i] = s[4]


cdef inline const void* own_struct(const void* hyper) noexcept nogil:
    return <const char*> hyper + sizeof(Common)


cdef inline void last_pass(Update update, int slots, const Tile* t) noexcept nogil:
    # all that a rule needs that measures first: it is never swept
    yield_update(update, slots, own_struct(t.hyper), t.n, <const real*> t.p, <const real*> t.g,
                 <real*> t.s[0], <real*> t.s[1], <real*> t.s[2], <real*> t.s[3], <real*> t.s[4], <real*> t.y[0])


cdef inline void measure(Measure formula, int slots, int numbers, const Tile* t) noexcept nogil:
    yield_numbers(formula, slots, numbers, own_struct(t.hyper), t.n, <const real*> t.p, <const real*> t.g,
                  <real*> t.s[0], <real*> t.s[1], <real*> t.s[2], <real*> t.s[3], <real*> t.s[4],
                  <real*> t.y[0], <real*> t.y[1], <real*> t.y[2], <real*> t.y[3])


# What a rule file compiles: the spans of a launch, or one tile.

cdef inline void sweep(Update update, int slots, const Work* w, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    if w.tile != NULL:
        last_pass(update, slots, w.tile)
    else:
        sweep_spans(update, NULL, slots, w, first, last)


cdef inline void sweep_whole(Whole whole, int slots, const Work* w, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    # for rules that write the parameter themselves
    cdef const Tile* t = w.tile
    if t != NULL:
        write_parameter(whole, slots, own_struct(t.hyper), t.n, <real*> t.p, <const real*> t.g, <real*> t.s[0],
                        <real*> t.s[1], <real*> t.s[2], <real*> t.s[3], <real*> t.s[4])
    else:
        sweep_spans(NULL, whole, slots, w, first, last)


cdef inline void sweep_only(Whole whole, int slots, const Work* w, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    # for what is no optimizer, and whose state is never stored in another format
    sweep_spans(NULL, whole, slots, w, first, last)
