"""Averages of parameters over training: the equal mean of SWA, or an exponential moving average."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import swapping
from .checks import checked, fraction, number, shown
from .engine import nesting
from .engine.formats import declared, widened
from .engine.group_plan import keep_master, reading
from .engine.halves import MASTER, Master, bits, exact, master_in
from .engine.optimizer import Optimizer
from .engine.parameter import Parameter, laid_out
from .engine.shadows import rounded
from .engine.state import check_distinct
from .native import dispatch
from .native.parameters import AddressRanges, Stepping
from .native.plans import Plan
from .native.runtime import power
from .native.steps import Launch, execute
from .swapping import Swap, with_shadows


class Average:
    """A running average of parameters, updated in one kernel pass and swapped in for evaluation.

        a = a + w_t * (p - a),     t = 1, 2, … the count of updates, so that the first one copies p
        decay=None                 w_t = 1 / t: the equal mean (SWA, Izmailov et al. 2018)
        decay=d                    w_t = 1 - d: the exponential moving average (w_1 = 1), as torch's AveragedModel
        decay=d, bias_correction   w_t = (1 - d) / (1 - d^t): divided by the sum of its weights, as Adam corrects its
                                   moments, so that the first value counts no more than the others

        function=f                 a = f(a, p, n), n = 1, 2, … the count of updates so far; the first one copies p.
                                   `f` is called for each parameter, gets a read-only p, and returns an array of its
                                   shape, or None if it has changed the a that it was given.  It isn't in state dicts

    params: any nesting of Parameters and arrays, as for an optimizer.  An average has its parameter's dtype (float32
        for one of 16 bits) and, if that is contiguous, its layout.
    decay, bias_correction, function: see above.
    optimizer: the one that steps the parameters of 16 bits; their masters are averaged then, not the rounded values.

    Raises what an optimizer raises for parameters, ValueError for a `decay` outside [0, 1), and KeyError for a
    parameter of 16 bits that `optimizer` doesn't have.

        >>> w = np.array([1.0])
        >>> average = ol.Average([w], decay=0.9)
        >>> average.update()                 # after each step of an optimizer
        >>> w[:] = 2.0
        >>> average.update()
        >>> with average.swapped():          # evaluate here
        ...     print(w)
        [1.1]
    """

    optimizer: Any = None                        # pickles of earlier versions have none

    @checked
    def __init__(self, params: Any, decay: float | None = None, *, bias_correction: bool = False,
                 function: Callable[[np.ndarray, np.ndarray, int], Any] | None = None, optimizer: Any = None) -> None:
        self.decay = None if decay is None else fraction("decay", decay)
        if function is not None and not callable(function):
            raise TypeError(f"`function` must be a function of (average, new, n), got {shown(function)}")
        if function is not None and (decay is not None or bias_correction):
            raise ValueError("`function` says how to average, and so does `decay`; give one of them")
        self.function = function
        if bias_correction and decay is None:
            raise ValueError("`bias_correction` needs a `decay`: an equal mean has no bias")
        self.bias_correction = bool(bias_correction)
        self._count = np.zeros((), np.int64)     # stored by the call that averages: an interrupt finds both or none
        self._parameters, self._names, _ = nesting.as_parameters(nesting.read(params))
        if not self._parameters:
            raise ValueError("an average needs at least one parameter, got an empty nesting")
        self._check_distinct(self._parameters)
        if not (optimizer is None or isinstance(optimizer, Optimizer)):
            raise TypeError(f"`optimizer` must be an optimizer, the one that steps the parameters, got "
                            f"{shown(optimizer)}")
        self.optimizer = optimizer
        self._averages = [Parameter(laid_out(p.data, np.zeros, p.float_type), name)
                          for p, name in zip(self._parameters, self._names, strict=True)]
        self._swap: Swap | None = None
        self._memory, self._plans = self._made_plans(self._parameters, self._averages)

    def _check_distinct(self, parameters: list[Parameter]) -> None:
        check_distinct((f"parameter '{name}'" for name in self._names), (p.data for p in parameters), "list it once")

    def _made_plans(self, parameters: list[Parameter], averages: list[Parameter]) -> tuple[AddressRanges, list[Plan]]:
        for average, parameter in zip(averages, parameters, strict=True):
            self._state_of(parameter)            # raises for one that the optimizer doesn't have
            average.casts = parameter.reads_any
            average.grad = declared(parameter.data)
        plans = []
        for dtype in dict.fromkeys(average.dtype for average in averages):
            plan = Plan([average for average in averages if average.dtype == dtype], dispatch.kernel("mean", dtype), 1)
            plan.reads = reading(dtype)
            for at in range(len(plan.parameters)):
                plan.attach(at, [], [self._count], True)
            plans.append(plan)
        return AddressRanges(average.data for average in averages), plans

    def _state_of(self, parameter: Parameter) -> Mapping[str, np.ndarray]:
        """What the optimizer keeps beside a parameter of 16 bits."""
        if self.optimizer is None or not parameter.half:
            return {}
        try:
            state: Mapping[str, np.ndarray] = self.optimizer.state[parameter.data]
        except KeyError:
            name = next((name for name, known in zip(self._names, self._parameters, strict=True) if known is parameter),
                        parameter.name)
            raise KeyError(f"`optimizer` must have each parameter of 16 bits, and has no '{name}'; give the one that "
                           f"steps it, and replace it there first") from None
        return state

    def _bind(self) -> None:
        """Enters what is to be averaged: parameters, and their rests."""
        beside: dict[Parameter, tuple[Master, Mapping[str, np.ndarray]]] = {}
        for average, parameter in zip(self._averages, self._parameters, strict=True):
            if parameter.half and self.optimizer is not None:
                state = self._state_of(parameter)
                if MASTER in state:              # which counts where nobody has written to the parameter
                    average.grad = exact(parameter, state)
                else:
                    beside[average] = master_in(parameter, state), state
                    if parameter.half == "float16":
                        average.grad = parameter.data
        for plan in self._plans:
            plan.bind(self._memory)
            for at, average in enumerate(plan.parameters if beside else ()):
                if average in beside:
                    keep_master(plan, at, *beside[average], "lacking")

    @property
    def n_averaged(self) -> int:
        """The count of updates."""
        return int(self._count)

    @property
    def averages(self) -> list[np.ndarray]:
        """The averaged arrays, in the order of the parameters (live: later updates change them)."""
        if self._swap:                           # what was written to the parameters is the average now
            there = self._swap.there
            for average, array in zip(self._averages, self._swap.live if there else self._swap.own, strict=False):
                if array.itemsize == 2:          # only where it isn't the average rounded
                    written = bits(array) != bits(rounded(average.data, array))
                    np.copyto(average.data, widened(array), where=written)
                elif there:
                    np.copyto(average.data, array)
        return [average.data for average in self._averages]

    def update(self) -> None:
        """Takes the parameters' present values into the average.

        Raises RuntimeError while averages of these parameters are swapped in, and what `function` raises; nothing is
        changed then.
        """
        if swapping.swaps and swapping.meets(p.data for p in self._parameters):
            raise RuntimeError("the averages are swapped in; leave `with average.swapped()` before update()")
        t = self.n_averaged + 1
        if self.function is not None and t > 1:
            self._apply(self.function, t - 1)
            return
        if self.decay is None:
            weight = 1.0 / t
        elif self.bias_correction:
            weight = (1.0 - self.decay) / (1.0 - power(self.decay, t))
        else:
            weight = 1.0 - self.decay if t > 1 else 1.0
        with Stepping():
            self._bind()
            execute([Launch(plan, 0, {"weight": weight}, {"t": t}) for plan in self._plans if plan.prepare()])

    def _apply(self, function: Callable[[np.ndarray, np.ndarray, int], Any], n: int) -> None:
        from .native.files import exchange  # few programs have functions of their own

        results: list[tuple[np.ndarray, np.ndarray]] = []
        for name, average, parameter in zip(self._names, self._averages, self._parameters, strict=True):
            changed, new = average.data.copy(order="K"), exact(parameter, self._state_of(parameter)).view()
            new.flags.writeable = False
            if (result := function(changed, new, n)) is not None and result is not changed:
                result = np.asarray(result)
                if result.shape != changed.shape or not np.can_cast(result.dtype, changed.dtype, "same_kind"):
                    raise ValueError(f"`function` must return {changed.dtype} of shape {changed.shape} for '{name}', "
                                     f"got {result.dtype} of shape {result.shape}")
                np.copyto(changed, result, casting="same_kind")
            results.append((average.data, changed))
        exchange([*results, (self._count, np.array(n + 1, np.int64))])       # one call: an interrupt finds all or none

    def remove(self, parameter: Parameter | np.ndarray | str) -> None:
        """Forgets a parameter and its average, as an optimizer's `remove`; raises as `replace` does."""
        at = self._find(parameter)
        if len(self._parameters) == 1:
            raise ValueError("an average needs at least one parameter, and this is its last")
        names = self._names[:at] + self._names[at + 1:]
        self._rearrange(self._parameters[:at] + self._parameters[at + 1:],
                        self._averages[:at] + self._averages[at + 1:], names)

    def replace(self, parameter: Parameter | np.ndarray | str, new: Parameter | np.ndarray, rows: Any = None,
                ) -> Parameter:
        """Follows an optimizer's `replace`, with the same `rows`: those that are taken over keep their average.

        New rows, and without `rows` an array of another shape, begin with their present values.  Raises KeyError for a
        parameter that isn't there, what an optimizer raises for `new` and `rows`, and RuntimeError while averages of
        these parameters are swapped in; nothing is changed then.
        """
        from .engine import replacing  # few programs do

        at = self._find(parameter)
        old, name, before = self._parameters[at], self._names[at], self._averages[at].data
        made = replacing.as_parameter(new, old, name)
        average = laid_out(made.data, dtype=made.float_type)
        average[...] = exact(made, self._state_of(made))
        if rows is not None:
            taken = replacing.rows_taken(rows, old.data, made.data, name)
            average[taken >= 0] = before[taken[taken >= 0]]
        elif made.shape == old.shape:
            average[...] = before
        parameters = [*self._parameters[:at], made, *self._parameters[at + 1:]]
        self._check_distinct(parameters)
        self._rearrange(parameters, [*self._averages[:at], Parameter(average, name), *self._averages[at + 1:]],
                        self._names)
        return made

    def _find(self, key: Any) -> int:
        """The place of a parameter, given as such, as its array or by name."""
        if swapping.swaps and swapping.meets(p.data for p in self._parameters):
            raise RuntimeError("the averages are swapped in; leave `with average.swapped()` before remove() or "
                               "replace()")
        found = [at for at, (one, name) in enumerate(zip(self._parameters, self._names, strict=True))
                 if key is one or key is one.data or (isinstance(key, str) and key == name)]
        if len(found) != 1:
            what = f"parameter {key!r}" if isinstance(key, str) else f"such parameter (got {type(key).__name__})"
            raise KeyError(f"the average has {'more than one' if found else 'no'} {what}")
        return found[0]

    def _rearrange(self, parameters: list[Parameter], averages: list[Parameter], names: list[str]) -> None:
        memory, plans = self._made_plans(parameters, averages)
        # no call in between, in which an interrupt could come
        self._parameters, self._averages, self._names, self._memory, self._plans = (
            parameters, averages, names, memory, plans)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside `with`, the parameters hold the averaged values; afterwards their own again, bit for bit.

        What is written to the parameters inside is taken for the average.  Whatever is saved, pickled or loaded inside
        means the same as outside: an average is the average, and `ol.save(path, model=params, …)` saves the parameters'
        own values.  Takes memory of the parameters' size meanwhile.

        Raises RuntimeError before the first update, and where averages of these parameters are swapped in already.
        """
        if not self.n_averaged:
            raise RuntimeError("there is no average yet; call update() first")
        averages = [average.data for average in self._averages]
        live, own = with_shadows(self._parameters, [average.copy(order="K") for average in averages])
        self._swap = swap = Swap(live, own, averages)
        try:
            yield from swapping.held(swap)
        finally:
            self.averages                        # noqa: B018 - what has 16 bits isn't exchanged with them
            self._swap = None

    def state_dict(self, copy: bool = True) -> dict[str, Any]:
        """The count, the settings, and the averages by position; a snapshot unless `copy=False`."""
        return {"n_averaged": self.n_averaged, "decay": self.decay, "bias_correction": self.bias_correction,
                "param_names": list(self._names),
                "averages": [a.copy(order="K") if copy else a for a in self.averages]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continues from a state dict; its decay and bias correction replace the constructor's.

        Raises ValueError, naming the parameter, if the number, shapes or dtypes of the averages differ; nothing is
        changed then.
        """
        missing = {"n_averaged", "decay", "bias_correction", "averages"} - set(state_dict)
        if missing:
            raise ValueError(f"the state dict of an average lacks {sorted(missing)}")
        given = [np.asarray(array) for array in state_dict["averages"]]
        if len(given) != len(self._averages):
            raise ValueError(f"the state dict has {len(given)} averages, "
                             f"the model has {len(self._averages)} parameters")
        for name, new, average in zip(self._names, given, self.averages, strict=True):
            if new.shape != average.shape or new.dtype != average.dtype:
                raise ValueError(f"the average of '{name}' must be {average.dtype} of shape {average.shape}, "
                                 f"got {new.dtype} of shape {new.shape}")
        decay = state_dict["decay"] if state_dict["decay"] is None else fraction("decay", state_dict["decay"])
        if decay is not None and self.function is not None:
            raise ValueError(f"the state dict has the decay {decay}, and this average has a `function` instead")
        taken = number("n_averaged", state_dict["n_averaged"])
        if taken != int(taken) or taken < 0:
            raise ValueError(f"`n_averaged` must be an integer >= 0, got {taken}")
        for new, average in zip(given, self.averages, strict=True):
            np.copyto(average, new)
        self.decay, self.bias_correction = decay, bool(state_dict["bias_correction"])
        self._count[...] = int(taken)
        self._show()

    def _show(self) -> None:
        """Writes the present averages to the parameters, if they are swapped in."""
        if self._swap and self._swap.there:
            for average, parameter in zip(self._averages, self._parameters, strict=True):
                parameter.data = average.data

    def __getstate__(self) -> dict[str, Any]:
        self.averages                            # noqa: B018 - takes in what was written to the parameters
        state = {key: value for key, value in self.__dict__.items() if key not in ("_memory", "_plans", "_swap")}
        if self._swap and self._swap.there:
            state["_own"] = self._swap.own[:len(self._parameters)]      # shadows come behind
        return state

    def __setstate__(self, saved: dict[str, Any]) -> None:
        own = saved.get("_own", ())              # of parameters that were pickled while they held the averages
        self.__dict__.update({key: value for key, value in saved.items() if key != "_own"}, _swap=None)
        for parameter, values in zip(self._parameters, own, strict=bool(own)):
            parameter.data = values
        self._memory, self._plans = self._made_plans(self._parameters, self._averages)

    def __copy__(self) -> Average:               # a shallow one: it shares the arrays, and what is swapped in
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __repr__(self) -> str:
        how = (f"decay={self.decay}, bias_correction={self.bias_correction}" if self.function is None
               else f"function={getattr(self.function, '__name__', self.function)}")
        return f"Average({how}, n_averaged={self.n_averaged}, {len(self._averages)} parameters)"
