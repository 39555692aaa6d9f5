# A step: launches, and one native call for all of them.
#
# Nothing here knows an update rule, or the float type that a kernel works with.

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.dict cimport PyDict_GetItemWithError, PyDict_Next
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport PyObject
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset

from .noise cimport scattered
from .parameters cimport AddressRanges
from .plans cimport Cut, Plan, SparsePlan
from .runtime cimport Kernel, run_jobs
from .table cimport (EVERYTHING, GROUP, HYPER, LARGEST, LINES, MOVED, NUMBERS, OWN, ROWS, SCALARS, SLOTS, TENSOR,
                     KernelRow, Own, Pass, Scope, Sums, Sweep, Work)

cnp.import_array()


cdef class Launch:
    """One kernel with its coefficients, for a cohort of a plan; `scalars` is the cohort's new scalar state."""
    cdef readonly Plan plan
    cdef readonly Py_ssize_t cohort
    cdef readonly Kernel kernel
    cdef readonly dict coefficients
    cdef readonly dict scalars
    cdef object group                    # launches of one group, or of all, may measure together
    cdef list totals                     # float64 scalars of the group, which they then move

    def __init__(self, Plan plan not None, Py_ssize_t cohort, dict coefficients not None, dict scalars not None):
        self.plan, self.cohort, self.kernel, self.coefficients = plan, cohort, plan.kernel, coefficients
        self.scalars = scalars

    cdef bint at_once(self) noexcept:
        return not (self.kernel.row.n_passes or self.plan.modifier is not None or self.plan.stored is not None
                    or self.plan.cautious_decay or self.plan.beside != NULL)

    cdef const Pass* measuring(self, Py_ssize_t phase) noexcept:
        # what this launch does in a phase before the last, or NULL
        cdef const KernelRow* row = self.kernel.row
        if phase < row.n_passes:
            return &row.passes[phase]
        if phase == row.n_passes and self.plan.modifier is not None:
            return &self.plan.modifier.row.passes[0]
        return NULL


cdef enum:
    COMMON = 4                   # coefficients that every rule has, the first in its struct
    TOTALS = 8                   # scalars that a group can have

# What they are where they aren't given: grad_scale, max_abs, l2, keep.
cdef double* NEUTRAL = [1.0, INFINITY, 0.0, 1.0]


cdef int pack(Kernel kernel, Kernel modifier, dict coefficients, void* hyper, double* scalars) except -1:
    # float64 values, cast once, in the order of the rule's structs; behind them what the modifier has
    cdef tuple names = kernel.scalars if modifier is None else (*kernel.scalars, *modifier.scalars)
    cdef Py_ssize_t k, given = 0, n = len(kernel.fields)
    cdef double value
    cdef PyObject* found
    for k in range(n):
        found = PyDict_GetItemWithError(coefficients, kernel.fields[k])
        if found != NULL:
            value = <object> found
            given += 1
        elif k < COMMON:
            value = NEUTRAL[k]
        else:
            return wrong_coefficients(kernel, modifier, coefficients)
        if kernel.row.itemsize == 4:
            (<float*> hyper)[k] = <float> value
        else:
            (<double*> hyper)[k] = value
    for k in range(len(names)):
        found = PyDict_GetItemWithError(coefficients, names[k])
        if found == NULL:
            return wrong_coefficients(kernel, modifier, coefficients)
        scalars[k] = <object> found
        given += 1
    if given != len(coefficients):
        return wrong_coefficients(kernel, modifier, coefficients)
    return 0


cdef int wrong_coefficients(Kernel kernel, Kernel modifier, dict coefficients) except -1:
    check_coefficients(kernel, {*coefficients} - {*(modifier.scalars if modifier is not None else ())})
    raise TypeError(f"the rule '{kernel.name}' can't take {sorted(coefficients)}")       # not reached


def check_coefficients(Kernel kernel not None, coefficients) -> None:
    """Raises TypeError unless these are a rule's coefficients; those that all rules share may be missing."""
    wanted = {*kernel.fields[COMMON:], *kernel.scalars}
    missing, unknown = wanted - {*coefficients}, {*coefficients} - wanted - {*kernel.fields[:COMMON]}
    if missing or unknown:
        own = ", ".join((*kernel.fields[COMMON:], *kernel.scalars))
        raise TypeError(f"the rule '{kernel.name}' has the coefficients {own} beside "
                        f"{', '.join(kernel.fields[:COMMON])}; `coefficients` "
                        + " and ".join([f"lacks {', '.join(sorted(missing))}"] * bool(missing)
                                       + [f"has {', '.join(sorted(unknown))}"] * bool(unknown)))


cdef struct Job:                 # what a thread takes: spans of one launch
    Sweep run
    const Work* work
    Py_ssize_t first
    Py_ssize_t last


include "probe.pxi"


cdef void run_spans(void* jobs, Py_ssize_t k) noexcept nogil:
    cdef const Job* job = (<const Job*> jobs) + k
    job.run(job.work, job.first, job.last)


cdef struct Prepared:            # a launch, ready to run
    Work work
    double hyper[HYPER]
    double scalars[2 * SCALARS]          # the rule's, then the modifier's
    int64_t words[SLOTS + TOTALS]        # its new scalar state
    double totals[TOTALS]
    bint cancelled
    double* sums                 # span x NUMBERS
    Own* own                     # entry


cdef class PreparedStep:
    """All launches of a step: those of a plan, and of a group, one after the other, after `prepare` of each plan.

    Everything that can fail happens when this is made.  `run` is one native call without Python code: an interrupt
    leaves all or nothing done.
    """
    cdef list launches
    cdef Py_ssize_t count, most_jobs
    cdef Prepared* prepared
    cdef Job* jobs
    cdef int phases              # before the last
    cdef Probe probe             # or None
    cdef object over             # gives the sums of groups to other ranks, and gets those of all; None: there are none
    cdef list spread             # what it returned
    cdef object fault            # or raised

    def __cinit__(self, list launches not None, bint zero_grad, Probe probe=None):
        cdef Launch launch
        cdef Prepared* p
        cdef Py_ssize_t k
        self.launches, self.count, self.probe = launches, len(launches), probe
        self.prepared = <Prepared*> PyMem_Malloc(self.count * sizeof(Prepared) + 1)
        if not self.prepared:
            self.count = 0
            raise MemoryError
        for k in range(self.count):
            self.prepared[k].sums = NULL
            self.prepared[k].own = NULL
            self.prepared[k].work.squares = NULL
        for k in range(self.count):
            launch = launches[k]
            p = &self.prepared[k]
            pack(launch.kernel, launch.plan.modifier, launch.coefficients, p.hyper, p.scalars)
            if launch.plan.scalars > SLOTS + TOTALS:
                raise ValueError(f"a rule has at most {SLOTS + TOTALS} scalars of state, got {launch.plan.scalars}")
            launch.plan.stage(launch.scalars, p.words)
            p.work.entries, p.work.hyper = launch.plan.entries, p.hyper
            p.work.zero_grad, p.work.tile = zero_grad, NULL
            p.work.beside, p.work.n_beside = launch.plan.beside, launch.plan.count if launch.plan.beside != NULL else 0
            p.cancelled = False
            self.most_jobs += max(launch.plan.cut.n_jobs, launch.plan.line_cut.n_jobs, launch.plan.matrix_cut.n_jobs)
            if not launch.at_once():
                self.prepare_passes(launch, p)
            if probe is not None:
                p.work.squares = <double*> PyMem_Malloc(launch.plan.cut.n_spans * MOVED * sizeof(double) + 1)
                if not p.work.squares:
                    raise MemoryError
        self.jobs = <Job*> PyMem_Malloc(self.most_jobs * sizeof(Job) + 1)
        if not self.jobs:
            raise MemoryError

    cdef int prepare_passes(self, Launch launch, Prepared* p) except -1:
        cdef Kernel format
        cdef Own own
        cdef Py_ssize_t i, k
        cdef int phases = launch.kernel.row.n_passes + (launch.plan.modifier is not None)
        self.phases = max(self.phases, phases)
        p.work.rule, p.work.scalars, p.work.lines = launch.kernel.row, p.scalars, launch.plan.lines
        p.work.measuring, p.work.own, p.work.sums = NULL, NULL, NULL
        p.work.cautious_decay = launch.plan.cautious_decay
        for k in range(SLOTS):
            p.work.formats[k] = NULL
        if launch.plan.stored is not None:
            for k, format in enumerate(launch.plan.stored):
                if format is not None:
                    p.work.formats[k] = &format.row.format
        p.work.scales, p.work.offsets = launch.plan.scales, launch.plan.offsets
        p.work.rounding.key, p.work.rounding.nearest = 0, launch.plan.nearest
        if launch.plan.rounds:
            p.work.rounding.key = scattered(scattered(launch.plan.seed) + <uint64_t> <int64_t> launch.scalars["step"])
        if not (phases or launch.plan.cautious_decay):       # which the last pass has, tile by tile
            return 0
        p.sums = <double*> PyMem_Malloc(launch.plan.cut.n_spans * NUMBERS * sizeof(double) + 1)
        p.own = <Own*> PyMem_Malloc(launch.plan.n_entries * sizeof(Own) + 1)
        if not (p.sums and p.own):
            raise MemoryError
        p.work.own, p.work.sums = p.own, p.sums
        memset(&own, 0, sizeof(own))
        own.scale, own.against, own.keep = 1.0, 1.0, launch.coefficients.get("keep", 1.0)
        for k in range(launch.kernel.row.own):
            own.field[k] = launch.coefficients[launch.kernel.fields[COMMON + k]]
        for i in range(launch.plan.n_entries):
            p.own[i] = own
        if len(launch.totals or ()) > TOTALS:
            raise ValueError(f"a group has at most {TOTALS} totals, got {len(launch.totals)}")
        for k in range(len(launch.totals or ())):
            p.totals[k] = launch.totals[k]
        return 0

    def __dealloc__(self):
        cdef Py_ssize_t k
        for k in range(self.count):
            PyMem_Free(self.prepared[k].sums)
            PyMem_Free(self.prepared[k].own)
            PyMem_Free(self.prepared[k].work.squares)
        PyMem_Free(self.prepared)
        PyMem_Free(self.jobs)

    cdef Py_ssize_t add_jobs(self, Py_ssize_t n, Py_ssize_t k, const Cut* cut, Sweep run) noexcept:
        cdef Launch launch = <Launch> (<list> self.launches)[k]
        cdef Py_ssize_t j
        self.prepared[k].work.spans = cut.spans
        for j in range(cut.first_job[launch.cohort], cut.first_job[launch.cohort + 1]):
            self.jobs[n].run, self.jobs[n].work = run, &self.prepared[k].work
            self.jobs[n].first, self.jobs[n].last = cut.first_span[j], cut.first_span[j + 1]
            n += 1
        return n

    cdef void run(self) noexcept:
        cdef Launch launch
        cdef Py_ssize_t k, n = 0
        cdef int phase
        for k in range(self.count):
            if self.first_of_plan(k):
                (<Launch> (<list> self.launches)[k]).plan.gather()
        for phase in range(self.phases):
            self.measure(phase)
        for k in range(self.count):
            launch = <Launch> (<list> self.launches)[k]
            self.prepared[k].work.measuring = NULL
            self.prepared[k].work.inner = launch.kernel.row.run if launch.at_once() else launch.kernel.row.last_spans
            n = self.add_jobs(n, k, &launch.plan.cut, self.prepared[k].work.inner if self.probe is None
                              else launch.kernel.row.watched_spans)
            if not self.prepared[k].cancelled:
                launch.plan.store(launch.cohort, self.prepared[k].words)
        run_jobs(run_spans, self.jobs, n)
        for k in range(self.count):
            if self.first_of_plan(k):
                (<Launch> (<list> self.launches)[k]).plan.scatter()

    cdef int probed(self) except -1:
        # tells the probe what it found
        cdef Plan plan
        cdef const double* squares
        cdef double sums[MOVED]
        cdef Py_ssize_t k, i, j, s
        for k in range(self.count):
            plan, squares = (<Launch> self.launches[k]).plan, self.prepared[k].work.squares
            s = plan.cut.first_span[plan.cut.first_job[(<Launch> self.launches[k]).cohort]]
            for i in range(plan.count):
                if plan.cohort_of[i] != (<Launch> self.launches[k]).cohort:
                    continue
                memset(sums, 0, sizeof(sums))
                while s < plan.cut.n_spans and plan.first_entry(i) <= plan.cut.spans[s].entry < plan.end_entry(i):
                    for j in range(MOVED):
                        sums[j] += squares[s * MOVED + j]
                    s += 1
                self.probe.add(plan.parameters[i], sums)
        return 0

    cdef bint first_of_plan(self, Py_ssize_t k) noexcept:
        return k == 0 or ((<Launch> (<list> self.launches)[k]).plan
                          is not (<Launch> (<list> self.launches)[k - 1]).plan)

    cdef void measure(self, int phase) noexcept:
        # one pass of all launches, and what it makes of the numbers
        cdef Launch launch
        cdef Prepared* p
        cdef const Pass* measuring
        cdef Py_ssize_t k, n = 0
        cdef bint by_lines = False
        for k in range(self.count):
            launch, p = <Launch> (<list> self.launches)[k], &self.prepared[k]
            measuring = p.work.measuring = launch.measuring(phase)
            if measuring != NULL and measuring.scope == LINES:
                n = self.add_jobs(n, k, &launch.plan.line_cut, launch.kernel.row.measure_lines)
                by_lines = True
            elif measuring != NULL:
                n = self.add_jobs(n, k, &launch.plan.cut, launch.kernel.row.measure_spans)
        run_jobs(run_spans, self.jobs, n)
        n = 0
        for k in range(self.count):
            launch, p = <Launch> (<list> self.launches)[k], &self.prepared[k]
            if p.work.measuring != NULL and p.work.measuring.scope == LINES:
                n = self.add_jobs(n, k, &launch.plan.matrix_cut, launch.kernel.row.finish_lines)
        if by_lines:
            run_jobs(run_spans, self.jobs, n)
        if self.over is not None:
            self.ask_ranks()
        k = 0
        while k < self.count:
            if self.prepared[k].work.measuring == NULL or self.prepared[k].work.measuring.scope == LINES:
                k += 1
            elif self.prepared[k].work.measuring.scope in (TENSOR, ROWS):
                if self.prepared[k].work.measuring.scope == ROWS:
                    self.combine_rows(k)
                else:
                    self.combine_tensors(k)
                k += 1
            else:
                self.combine_groups(k)

    cdef void combine_tensors(self, Py_ssize_t k) noexcept:
        # what a pass has measured of each parameter becomes its own numbers
        cdef Launch launch = <Launch> (<list> self.launches)[k]
        cdef Plan plan = launch.plan
        cdef Prepared* p = &self.prepared[k]
        cdef double numbers[NUMBERS]
        cdef double scalars[SLOTS + TOTALS]
        cdef Sums sums
        cdef Own before
        cdef Own* own
        cdef const double* c = p.scalars
        cdef Py_ssize_t i, j, first, end, s = plan.cut.first_span[plan.cut.first_job[launch.cohort]]
        sums.of = numbers
        if launch.plan.modifier is not None and p.work.measuring == &launch.plan.modifier.row.passes[0]:
            c += len(launch.kernel.scalars)
        for i in range(plan.count):
            if plan.cohort_of[i] != launch.cohort:
                continue
            first, end = plan.first_entry(i), plan.end_entry(i)
            s = self.add_up(k, s, first, end, numbers, &sums.count)
            if sums.count == 0.0:
                continue
            own = &p.own[first]
            before = own[0]
            if p.work.measuring.between(c, &sums, plan.own_scalars(i, scalars), own):
                plan.store_own(i, scalars)
            else:
                own.cancelled = True
            for j in range(first + 1, end):
                take_changes(&p.own[j], &before, own)

    cdef void combine_rows(self, Py_ssize_t k) noexcept:
        # what a pass has measured of each row becomes the rows' own numbers, parameter by parameter
        cdef Launch launch = <Launch> (<list> self.launches)[k]
        cdef Plan plan = launch.plan
        cdef Prepared* p = &self.prepared[k]
        cdef double* sums
        cdef double numbers[NUMBERS]
        cdef double count
        cdef Py_ssize_t i, j, first, end, s = plan.cut.first_span[plan.cut.first_job[launch.cohort]]
        for i in range(plan.count):
            if plan.cohort_of[i] != launch.cohort:
                continue
            first, end, sums = plan.first_entry(i), plan.end_entry(i), &p.sums[s * NUMBERS]
            for j in range(first, end):          # each has a span or more, so their sums make room for themselves
                s = self.add_up(k, s, j, j + 1, numbers, &count)
                memcpy(&sums[(j - first) * NUMBERS], numbers, sizeof(numbers))
            if first < end:
                p.work.measuring.between_rows(<const char*> p.hyper + COMMON * launch.kernel.row.itemsize, p.scalars,
                                              sums, end - first, &plan.entries[first], &p.own[first])

    cdef Py_ssize_t add_up(self, Py_ssize_t k, Py_ssize_t s, Py_ssize_t first, Py_ssize_t end, double* numbers,
                           double* count) noexcept:
        # the spans of entries first, ..., end - 1, in order; returns the span behind them
        cdef Prepared* p = &self.prepared[k]
        cdef Plan plan = (<Launch> (<list> self.launches)[k]).plan
        cdef const Pass* measuring = p.work.measuring
        cdef Py_ssize_t last = plan.cut.n_spans
        memset(numbers, 0, NUMBERS * sizeof(double))
        count[0] = 0.0
        while s < last and first <= plan.cut.spans[s].entry < end:
            add_numbers(measuring, numbers, &p.sums[s * NUMBERS])
            count[0] += plan.cut.spans[s].end - plan.cut.spans[s].begin
            s += 1
        return s

    cdef void combine_groups(self, Py_ssize_t first) noexcept:
        # The same for all launches of a group, or of all groups, from `first` on.  Those that are done measure no more;
        # others may stand between them, of a first rule that measures something else.
        cdef const Pass* measuring = self.prepared[first].work.measuring
        cdef object group = (<Launch> (<list> self.launches)[first]).group, latest = None
        cdef Launch launch
        cdef double numbers[NUMBERS]
        cdef Sums sums
        cdef Own before, after
        cdef Py_ssize_t k, i
        sums.of, sums.count = numbers, 0.0
        memset(numbers, 0, sizeof(numbers))
        if self.over is not None:
            sums.count = self.add_ranks(measuring, group, numbers)
        else:
            for k in range(first, self.count):
                if self.shares(k, measuring.scope, group):
                    sums.count += self.add_launch(k, numbers)
        for k in range(first, self.count):
            if not self.shares(k, measuring.scope, group):
                continue
            launch = <Launch> (<list> self.launches)[k]
            if sums.count and (latest is None or launch.group is not latest):
                latest, before = launch.group, self.prepared[k].own[0]
                after = before
                after.cancelled = not self.prepared[k].work.measuring.between(
                    self.prepared[k].scalars, &sums, self.prepared[k].totals if launch.totals else NULL, &after)
                for i in range(0 if after.cancelled or not launch.totals else len(launch.totals)):
                    (<double*> cnp.PyArray_DATA(<cnp.ndarray> launch.totals[i]))[0] = self.prepared[k].totals[i]
            self.prepared[k].work.measuring = NULL
            if sums.count:
                self.prepared[k].cancelled = self.prepared[k].cancelled or after.cancelled
                for i in range(launch.plan.n_entries):
                    take_changes(&self.prepared[k].own[i], &before, &after)

    cdef void ask_ranks(self) noexcept:
        # Gives away what was measured of groups: each parameter's cohort, its sums by spans, and its elements' number.
        # The moments have moved: a communicator that fails here, or an interrupt, leaves a step half done.
        cdef Launch launch
        cdef Plan plan
        cdef Py_ssize_t k, i, begin, s
        cdef cnp.ndarray sums
        cdef double count
        try:
            mine = []
            for k in range(self.count):
                launch, plan = <Launch> self.launches[k], (<Launch> self.launches[k]).plan
                if not (self.shares(k, GROUP, launch.group) or self.shares(k, EVERYTHING, None)):
                    continue
                s = plan.cut.first_span[plan.cut.first_job[launch.cohort]]
                for i in range(plan.count):
                    if plan.cohort_of[i] != launch.cohort:
                        continue
                    begin, count = s, 0.0
                    while s < plan.cut.n_spans and plan.first_entry(i) <= plan.cut.spans[s].entry < plan.end_entry(i):
                        count += plan.cut.spans[s].end - plan.cut.spans[s].begin
                        s += 1
                    sums = np.empty((s - begin, NUMBERS))
                    memcpy(cnp.PyArray_DATA(sums), &self.prepared[k].sums[begin * NUMBERS], sums.nbytes)
                    cohort = launch.scalars, plan.first(launch.cohort)
                    mine.append((launch.group, plan.parameters[i], cohort, sums, count))
            if mine:
                self.spread = self.over(mine)
        except BaseException as fault:
            self.fault, self.spread = fault, []
            for k in range(self.count):
                self.prepared[k].cancelled = True
                for i in range((<Launch> self.launches[k]).plan.n_entries if self.prepared[k].own != NULL else 0):
                    self.prepared[k].own[i].cancelled = True

    cdef double add_ranks(self, const Pass* measuring, group, double* numbers) noexcept:
        # adds the sums of all ranks, in the order of a process that has all parameters
        cdef cnp.ndarray sums
        cdef double part[NUMBERS]
        cdef double total = 0.0
        cdef Py_ssize_t s
        for of_group, sums, count in self.spread:
            if measuring.scope == EVERYTHING or of_group is group:
                memset(part, 0, sizeof(part))
                for s in range(cnp.PyArray_DIM(sums, 0)):
                    add_numbers(measuring, part, <const double*> cnp.PyArray_DATA(sums) + s * NUMBERS)
                add_numbers(measuring, numbers, part)
                total += <double> count
        return total

    cdef bint shares(self, Py_ssize_t k, Scope scope, group) noexcept:
        cdef const Pass* measuring = self.prepared[k].work.measuring
        return measuring != NULL and measuring.scope == scope and (
            scope != GROUP or (<Launch> (<list> self.launches)[k]).group is group)

    cdef double add_launch(self, Py_ssize_t k, double* numbers) noexcept:
        # adds what a launch has measured; returns of how many elements
        cdef Launch launch = <Launch> (<list> self.launches)[k]
        cdef Plan plan = launch.plan
        cdef double part[NUMBERS]
        cdef double count, total = 0.0
        cdef Py_ssize_t i, s = plan.cut.first_span[plan.cut.first_job[launch.cohort]]
        for i in range(plan.count):
            if plan.cohort_of[i] == launch.cohort:
                s = self.add_up(k, s, plan.first_entry(i), plan.end_entry(i), part, &count)
                add_numbers(self.prepared[k].work.measuring, numbers, part)
                total += count
        return total


cdef inline void take_changes(Own* own, const Own* before, const Own* after) noexcept:
    # what numbers have made of the first entry of a tensor, or of a group; the rest is each entry's
    cdef int k
    own.cancelled = own.cancelled or after.cancelled
    if after.keep != before.keep:
        own.keep = after.keep
    if after.scale != before.scale:
        own.scale = after.scale
    if after.against != before.against:
        own.against = after.against
    for k in range(OWN):
        if after.field[k] != before.field[k]:
            own.field[k] = after.field[k]


cdef inline void add_numbers(const Pass* measuring, double* numbers, const double* more) noexcept:
    cdef int q
    for q in range(measuring.numbers):
        if measuring.how[q] != LARGEST:
            numbers[q] = numbers[q] + more[q]
        elif more[q] > numbers[q] or more[q] != more[q]:
            numbers[q] = more[q]


def execute(list launches not None) -> None:
    """Runs launches that were made for the moment."""
    PreparedStep(launches, False).run()


include "group_plan.pxi"
