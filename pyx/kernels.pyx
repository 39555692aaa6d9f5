# The kernels, compiled once per CPU level and float type: one table, a row for each.
#
# Nothing here holds Python objects, checks arguments or knows threads: see steps.pyx and vectors.pyx for those.  A rule
# registers itself, so its file is included; everything else is shared by declarations.

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int8_t, int16_t, int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from .algebra cimport (combine, combine_halves, compare, copy, depart, free_gradient, gram, gram_halves, launch,
                       move, move_within, observe, renew, renew_halves, slope_within,
                       turn_inward, widen_all)
from .halves cimport AVX2, INFINITE, LAST_BFLOAT16, MAGNITUDE, QUIET, round_special, rounded, step_halves
from .noise cimport GOLDEN
from .passes cimport finish_lines, last_spans, measure_lines, measure_spans
from .real cimport (bits_of_single, const_real_array, decayed, double_sqrt, epsilon, fabs, larger, maximum, real,
                    real_array, sign, single_of, sqrt, towards, widened)
from .reductions cimport add, dot, limit, max_abs, scale, sum_abs, sum_squares
from .sweep cimport last_pass, measure, sweep, sweep_only, sweep_whole
from .table cimport (EVERYTHING, FORMAT, GROUP, LINES, MODIFIER, NUMBERS, PASSES, PRODUCTS, ROWS, RULE,
                     SHARING, SQUARES, SUM, TABLE, TENSOR, VECTOR, Between, BetweenLines, BetweenRows,
                     Decode, Encode, Entry, How, KernelRow, Kind, Lines, Own, Pass, Random, Scope, StepHalves, Sums,
                     Sweep, Tile, Work, VectorKernel)
from .watched cimport watched_spans

cdef enum:
    UNUSED = -1                  # a number that a pass doesn't yield
    ROOM = 128                   # rows of the table, and one that holds what is too many

cdef struct Named:
    const char* name
    const char* coefficients     # names of structs, or ""
    const char* scalars
    KernelRow row

# Rows are bound by C alone, which can't fail: thousands of bytes less in each module than with Python's strings and
# exceptions.  What is wrong with one is found at the end, and by native/dispatch.py.
cdef Named ROWS_BOUND[ROOM]
cdef int n_bound = 0


cdef KernelRow* new_row(const char* name, Kind kind, const char* coefficients="", const char* scalars="") noexcept:
    global n_bound
    cdef Named* named = &ROWS_BOUND[min(n_bound, ROOM - 1)]
    n_bound += 1
    named.name, named.coefficients, named.scalars = name, coefficients, scalars
    named.row.kind, named.row.itemsize = kind, sizeof(real)
    return &named.row


cdef KernelRow* bind(const char* name, Sweep run, int slots, const char* coefficients,
                     const char* scalars="") noexcept:
    cdef KernelRow* row = new_row(name, RULE, coefficients, scalars)
    row.run, row.slots = run, slots
    row.measure_spans, row.measure_lines = measure_spans, measure_lines
    row.finish_lines, row.last_spans, row.watched_spans = finish_lines, last_spans, watched_spans
    return row


cdef void in_halves(KernelRow* row, StepHalves run) noexcept:
    # A loop of its own for float32 with state in bfloat16.  For the rules that most programs run: large tensors take a
    # fifth less time than in tiles, and each such loop is a thousand bytes of two modules.
    row.step_halves = run if AVX2 and sizeof(real) == 4 else NULL


cdef void bind_whole(const char* name, Sweep run, int slots, const char* coefficients="") noexcept:
    bind(name, run, slots, coefficients).whole = True


cdef KernelRow* owns(int fields, KernelRow* row, int scalars=0) noexcept:
    # The first fields of the rule's struct are a tensor's own, once a pass has measured, and so are the last scalars of
    # its state, which `between` moves.
    row.own, row.own_scalars = fields, scalars
    return row


cdef Pass* measured(KernelRow* row, Sweep formula, Scope scope, Between between, How how0, int how1=UNUSED,
                    int how2=UNUSED, int how3=UNUSED) noexcept:
    # adds a pass before the last, which yields one to four numbers
    cdef Pass* added = &row.passes[min(row.n_passes, PASSES - 1)]        # the last is left to a modifier
    cdef int* how = [how0, how1, how2, how3]
    added.measure, added.scope, added.between = formula, scope, between
    while added.numbers < NUMBERS and how[added.numbers] != UNUSED:
        added.how[added.numbers] = <How> how[added.numbers]
        added.numbers += 1
    row.n_passes += 1
    return added


cdef void measured_lines(KernelRow* row, Sweep formula, BetweenLines between, int states) noexcept:
    # Adds a pass that sums squares by row and by column.  The rule then finds in s[slots] the product of the factors
    # that `between` makes of `states` state arrays, which have a value for each row, or for each column.
    cdef Pass* added = measured(row, formula, LINES, NULL, SQUARES)
    added.between_lines, row.lines, row.line_states = between, added, states


cdef void measured_rows(KernelRow* row, Sweep formula, BetweenRows between, int states, How how0, int how1=UNUSED,
                        int how2=UNUSED, int how3=UNUSED) noexcept:
    # Adds a pass whose numbers are combined row by row.  `states` state arrays have a number for each row.
    measured(row, formula, ROWS, NULL, how0, how1, how2, how3).between_rows = between
    row.by_rows, row.line_states = True, states


cdef void bind_vector(const char* name, VectorKernel run, int sums, int maxima, int first_row=0,
                      int per_row=0) noexcept:
    cdef KernelRow* row = new_row(name, VECTOR)
    row.vector, row.sums, row.maxima, row.first_row, row.per_row = run, sums, maxima, first_row, per_row


def kernels() -> dict:
    """What native/dispatch.py finds: name: (capsule of the row, names of its structs)."""
    cdef dict found = {}
    cdef Named* named
    cdef int i
    for i in range(min(n_bound, ROOM)):
        named = &ROWS_BOUND[i]
        if n_bound >= ROOM or named.row.n_passes >= PASSES or named.name in found:
            raise TypeError("a kernel too many, one of too many passes, or a name twice", named.name)
        found[named.name] = (PyCapsule_New(&named.row, TABLE, NULL), named.coefficients, named.scalars)
    return found


bind_vector("dot", dot, 1, 0)
bind_vector("sum_squares", sum_squares, 1, 0)
bind_vector("sum_abs", sum_abs, 1, 0)
bind_vector("max_abs", max_abs, 0, 1)
bind_vector("scale", scale, 0, 0)
bind_vector("limit", limit, 0, 0)
bind_vector("add", add, 0, 0)
bind_vector("observe", observe, 1, 1)
bind_vector("compare", compare, 3, 1)
bind_vector("copy", copy, 0, 0)
bind_vector("move", move, 0, 0)
bind_vector("depart", depart, 0, 0)
bind_vector("launch", launch, 2, 1)
bind_vector("move_within", move_within, 0, 0)
bind_vector("slope_within", slope_within, 1, 0)
bind_vector("free_gradient", free_gradient, 0, 1)
bind_vector("turn_inward", turn_inward, 1, 1)
bind_vector("gram", gram, 0, 0, 2, 2)
bind_vector("renew", renew, 1, 0, 6, 2)
bind_vector("combine", combine, 1, 1)
bind_vector("gram_halves", gram_halves, 0, 0, 2, 2)
bind_vector("renew_halves", renew_halves, 1, 0, 6, 2)
bind_vector("combine_halves", combine_halves, 1, 1)
bind_vector("widen", widen_all, 0, 0)

include "rules/sgd.pxi"
include "rules/adam.pxi"
include "rules/average.pxi"
include "rules/adagrad.pxi"
include "rules/adadelta.pxi"
include "rules/adamax.pxi"
include "rules/nadam.pxi"
include "rules/radam.pxi"
include "rules/rmsprop.pxi"
include "rules/rprop.pxi"
include "rules/asgd.pxi"
include "rules/adabelief.pxi"
include "rules/novograd.pxi"
include "rules/lamb.pxi"
include "rules/lars.pxi"
include "rules/stable_adamw.pxi"
include "rules/schedule_free.pxi"
include "rules/prodigy.pxi"
include "rules/dog.pxi"
include "rules/adafactor.pxi"
include "rules/lion.pxi"
include "rules/adopt.pxi"
include "rules/laprop.pxi"
include "rules/adan.pxi"
include "rules/ademamix.pxi"
include "rules/mars.pxi"
include "rules/adamp.pxi"
include "rules/adam_mini.pxi"
include "rules/muon.pxi"
include "rules/assign.pxi"
include "rules/modifiers.pxi"
include "formats.pxi"
include "beside.pxi"             # what tests and benchmarks need, in a build in place: setup.py writes it
