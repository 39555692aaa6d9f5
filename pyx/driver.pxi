# A DriverBase is the compiled half of a Driver: what every step does where nothing changed since the one before.

cdef class DriverBase:
    """The plans of one group, and what in it was checked last.

    The subclass adds `start(plan, made)`, which creates state, and whatever makes the plans anew after a change.
    """
    cdef readonly object optimizer
    cdef readonly dict group
    cdef readonly tuple scalars  # names of the scalar state
    cdef tuple names             # of what is watched in the group
    cdef list seen               # the values that were checked last; None: nothing was
    cdef Py_ssize_t size         # entries of the group then: one more may be a slip of a hyper-parameter's name
    cdef public object version   # of the state mapping that the plans were made from
    cdef public list plans       # [(plan, rule), …]

    def __init__(self, optimizer, dict group not None, tuple scalars not None, tuple names not None):
        self.optimizer, self.group, self.scalars, self.names = optimizer, group, scalars, names
        self.version, self.plans = None, []

    def unchanged(self, version) -> bool:
        """Whether the group has the values that were checked last, and the state mapping this version."""
        cdef Py_ssize_t k
        cdef PyObject* found
        if self.seen is None or self.version != version or len(self.group) != self.size:
            return False
        for k in range(len(self.names)):
            found = PyDict_GetItemWithError(self.group, self.names[k])
            if found == NULL:
                return False
            value = <object> found
            if value is self.seen[k]:
                continue
            # by identity, for True == 1; but a schedule may well give the same number again
            if not (type(value) is float and type(self.seen[k]) is float and <double> value == <double> self.seen[k]):
                return False
        return True

    def remember(self, version) -> None:
        """Takes the group as it is for checked."""
        self.seen, self.size, self.version = [self.group[name] for name in self.names], len(self.group), version

    def bind(self, Memory memory not None) -> None:
        """Enters the gradients as they are now into the plans."""
        cdef Plan plan
        for plan, _ in self.plans:
            plan.bind(memory)

    def enter(self, list runs not None, list made not None, double factor, double limit) -> None:
        """Adds what is to run for this group: gradients times `factor`, then clipped to ±`limit`."""
        cdef Plan plan
        cdef Py_ssize_t classes, label
        cdef dict state, finished
        if self.group.get("maximize"):
            factor = -factor
        coefficients = self.optimizer.coefficients
        for plan, rule in self.plans:
            classes = plan.prepare()
            if classes < 0:
                self.start(plan, made)
                classes = plan.prepare()
            for label in range(classes):
                state = plan.values(label, self.scalars)
                finished = coefficients(self.group, state, plan.first(label))
                if factor != 1.0:
                    finished["grad_scale"] = factor
                if limit != INFINITY:
                    finished["limit"] = limit
                runs.append((plan, label, rule, finished, state))
