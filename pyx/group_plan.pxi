# The plans of one parameter group, and a step of all groups: what is done where nothing changed since the last one.

cdef object UNWATCHED = object()         # stands for the value of a user's own entry of a group


cdef class GroupPlanCore:
    """The plans of one parameter group, and what in it was checked last: what a step does where nothing changed.

    The subclass adds `create_state(method, plan, created)`, `outgrown(method, plan)`, which makes a SparsePlan of a
    Plan, `sparse(method, plan)`, which it asks about sparse gradients, and whatever makes plans anew after a change;
    one that is `special` also overrides methods of this class.
    """
    cdef readonly dict group
    cdef public tuple scalars            # names of the scalar state
    cdef readonly bint special           # others are called without a look for methods that override these
    cdef public bint counts              # the steps that the method doesn't count are needed to round
    cdef public tuple watched            # names in the group
    cdef list seen                       # entries of the group as they were checked last, in order; None: never
    cdef public object version           # of the state mapping that the plans were made from
    cdef public list plans
    cdef public list totals              # float64 scalars of the group, which kernels move
    cdef public dict of_modifier         # its coefficients

    def __init__(self, dict group not None, bint special=False):
        self.group, self.scalars, self.watched, self.special = group, (), (), special
        self.version, self.plans, self.totals, self.of_modifier = None, [], [], {}

    cdef bint unchanged(self, version) except -1:
        """Whether the group has the values that were checked last, and the state mapping this version."""
        cdef Py_ssize_t at = 0, k = 0
        cdef PyObject* key
        cdef PyObject* found
        if self.seen is None or self.version != version:
            return False
        with cython.critical_section(self.group):        # without the GIL: no other thread replaces a value meanwhile
            if len(self.group) != len(self.seen):
                return False
            while PyDict_Next(self.group, &at, &key, &found):
                name, seen = <tuple> self.seen[k]
                k += 1
                if key != <PyObject*> name:
                    return False
                if found == <PyObject*> seen or seen is UNWATCHED:
                    continue
                # by identity, for True == 1; but a schedule may well give the same number again
                value = <object> found
                if not (type(value) is float and type(seen) is float and <double> value == <double> seen):
                    return False
        return True

    def remember(self, version) -> None:
        """Takes the group as it is for checked."""
        self.seen = [(name, value if name in self.watched else UNWATCHED) for name, value in self.group.items()]
        self.version = version

    cpdef bind(self, method, AddressRanges memory):
        """Enters the gradients as they are now into the plans."""
        cdef Py_ssize_t k
        cdef Plan plan
        for k in range(len(self.plans)):
            plan = self.plans[k]
            if not plan.bind(memory):
                plan = self.plans[k] = self.outgrown(method, plan)
                plan.bind(memory)
            if plan.locked is not None:
                raise ValueError(f"parameter '{method.state.name_of(plan.locked)}' must be writeable, and became "
                                 f"read-only since it was given; set .flags.writeable = True")
            if isinstance(plan, SparsePlan) and (<SparsePlan> plan).n_sparse:
                (<SparsePlan> plan).touch(memory, self.sparse(method, plan))

    cpdef create_states(self, method, list created):
        """Creates the state of parameters that have their first gradient now; notes each entry in `created` first."""
        cdef Plan plan
        for plan in self.plans:
            if plan.prepare() < 0:
                self.create_state(method, plan, created)
                plan.prepare()

    cpdef launches(self, method, list launches, double factor, double max_abs):
        """Adds what is to run for this group: gradients times `factor`, then clipped to +-`max_abs`."""
        cdef Plan plan
        cdef Launch launch
        cdef Py_ssize_t cohort
        cdef dict state, finished
        if self.group.get("maximize"):
            factor = -factor
        coefficients = method.coefficients
        for plan in self.plans:
            for cohort in range(plan.cohorts):
                state = plan.values(cohort, self.scalars)
                finished = coefficients(self.group, state, plan.first(cohort))
                if self.counts:
                    state["step"] += 1
                if self.of_modifier:
                    finished.update(self.of_modifier)
                if factor != 1.0:
                    finished["grad_scale"] = factor
                if max_abs != INFINITY:
                    finished["max_abs"] = max_abs
                launch = Launch.__new__(Launch)
                launch.plan, launch.cohort, launch.coefficients, launch.scalars = plan, cohort, finished, state
                launch.kernel, launch.group, launch.totals = plan.kernel, self, self.totals
                if plan.first_kernel is not None and plan.first(cohort):
                    launch.kernel = plan.first_kernel
                launches.append(launch)


def changed(list groups not None, param_groups, version) -> list | None:
    """Those whose parameter group isn't as it was checked last, or is another; None where all are as they were."""
    cdef Py_ssize_t k
    cdef GroupPlanCore group
    cdef list others = None
    if len(groups) != len(param_groups):
        return [*range(len(param_groups))]
    for k in range(len(groups)):
        group = groups[k]
        if group.group is not param_groups[k] or not group.unchanged(version):
            if others is None:
                others = []
            others.append(k)
    return others


def bind(method, list groups not None, AddressRanges memory not None) -> None:
    """Enters the gradients of all groups as they are now."""
    cdef GroupPlanCore group
    for group in groups:
        if group.special:
            group.bind(method, memory)
        else:
            GroupPlanCore.bind(group, method, memory)


cdef void finish(list sequel, list counts, list values) noexcept:
    # what a step ends with: launches, one list after the other, and numbers in float64 arrays without axes
    cdef Py_ssize_t k
    for k in range(len(sequel)):
        (<PreparedStep> sequel[k]).run()
    for k in range(len(counts)):
        (<double*> cnp.PyArray_DATA(<cnp.ndarray> counts[k]))[0] = values[k]


def run_step(method, list groups not None, list created not None, double factor, double max_abs, bint zero_grad,
             Probe probe=None) -> int:
    """Steps all groups, by the gradients that are bound times `factor`, then clipped to +-`max_abs`; counts launches.

    Creates the state of parameters that have their first gradient, and notes each entry in `created`; if anything
    fails, the step comes to nothing, and so does the state.  A `probe` is told how far parameters have moved.
    """
    cdef list launches = [], stages = [], sequel = [], counts = [], values = []
    cdef GroupPlanCore group
    cdef PreparedStep prepared
    follower = method.follower
    try:
        for group in groups:
            if group.special:
                group.create_states(method, created)
            else:
                GroupPlanCore.create_states(group, method, created)
        for group in groups:
            if group.special:
                group.launches(method, launches, factor, max_abs)
            else:
                GroupPlanCore.launches(group, method, launches, factor, max_abs)
        prepared = PreparedStep(launches, zero_grad, probe)
        if follower is not None:
            stages, counts, values = follower.follow(method.param_groups, method.state, created)
            sequel = [PreparedStep(stage, False) for stage in stages]
    except BaseException:
        for state, key in created:
            state.pop(key, None)         # noted before it is made
        raise
    if prepared.phases:
        prepared.over = method.over
    prepared.run()
    if prepared.fault is not None:
        raise prepared.fault
    finish(sequel, counts, values)
    if probe is not None:
        prepared.probed()
    return len(launches)
