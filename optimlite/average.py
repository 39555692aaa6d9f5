"""Averages of parameters over training: the equal mean of SWA, or an exponential moving average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from .checks import fraction
from .engine import nesting
from .engine.parameter import Parameter
from .engine.state import check_distinct
from .native import dispatch
from .native.runtime import power
from .native.steps import AddressRanges, Launch, Plan, Stepping, execute


class Average:
    """A running average of parameters, updated in one kernel pass and swapped in for evaluation.

        a = a + w_t * (p - a),     t = 1, 2, … the count of updates, so that the first one copies p
        decay=None                 w_t = 1 / t: the equal mean (SWA, Izmailov et al. 2018)
        decay=d                    w_t = 1 - d: the exponential moving average (w_1 = 1), as torch's AveragedModel
        decay=d, bias_correction   w_t = (1 - d) / (1 - d^t): divided by the sum of its weights, as Adam corrects its
                                   moments, so that the first value counts no more than the others

    `params`: any nesting of Parameters and arrays, as for an optimizer.  Averages have a parameter's dtype and layout.
    Raises what an optimizer raises for parameters, and ValueError for a `decay` outside [0, 1).

        average = ol.Average(model, decay=0.999)
        …  opt.step(); average.update()
        with average.swapped():
            evaluate()
    """

    def __init__(self, params: Any, decay: float | None = None, *, bias_correction: bool = False) -> None:
        self.decay = None if decay is None else fraction("decay", decay)
        if bias_correction and decay is None:
            raise ValueError("`bias_correction` needs a `decay`: an equal mean has no bias")
        self.bias_correction = bool(bias_correction)
        self._count = np.zeros((), np.int64)     # stored by the call that averages: an interrupt finds both or none
        self._parameters, self._names, _ = nesting.as_parameters(nesting.read(params))
        if not self._parameters:
            raise ValueError("an average needs at least one parameter, got an empty nesting")
        check_distinct((f"parameter '{name}'" for name in self._names), (p.data for p in self._parameters))
        self._averages = [Parameter(np.zeros_like(p.data, subok=False), name)
                          for p, name in zip(self._parameters, self._names, strict=True)]
        self._swapped = np.array(False), np.array(True)      # now, and after the next exchange
        self._make_plans()

    def _make_plans(self) -> None:
        for average, parameter in zip(self._averages, self._parameters, strict=True):
            average.grad = parameter.data
        self._memory = AddressRanges(average.data for average in self._averages)
        self._plans = []
        for dtype in dict.fromkeys(average.dtype for average in self._averages):
            plan = Plan([average for average in self._averages if average.dtype == dtype],
                        dispatch.kernel("mean", dtype), 1)
            for at in range(len(plan.parameters)):
                plan.attach(at, [], [self._count], True)
            self._plans.append(plan)

    @property
    def n_averaged(self) -> int:
        """The count of updates."""
        return int(self._count)

    @property
    def averages(self) -> list[np.ndarray]:
        """The averaged arrays, in the order of the parameters (live: later updates change them)."""
        return [average.data for average in self._averages]

    def update(self) -> None:
        """Takes the parameters' present values into the average."""
        if self._swapped[0]:
            raise RuntimeError("the averages are swapped in; leave `with average.swapped()` before update()")
        t = self.n_averaged + 1
        if self.decay is None:
            weight = 1.0 / t
        elif self.bias_correction:
            weight = (1.0 - self.decay) / (1.0 - power(self.decay, t))
        else:
            weight = 1.0 - self.decay if t > 1 else 1.0
        with Stepping():
            for plan in self._plans:
                plan.bind(self._memory)
            execute([Launch(plan, 0, {"weight": weight}, {"t": t}) for plan in self._plans if plan.prepare()])

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside `with`, the parameters hold the averaged values; afterwards their own again, bit for bit.

        Raises RuntimeError before the first update, and where the averages are swapped in already.  What is written to
        the parameters inside is taken for the average.
        """
        if not self.n_averaged:
            raise RuntimeError("there is no average yet; call update() first")
        if self._swapped[0]:
            raise RuntimeError("the averages are swapped in already")
        pairs = [(p.data, average.data) for p, average in zip(self._parameters, self._averages, strict=True)]
        pairs.append(self._swapped)              # with the arrays, so that it is true of them at any moment
        from .native.files import exchange           # few programs evaluate averages

        try:
            exchange(pairs)
            yield
        finally:
            if self._swapped[0]:
                exchange(pairs)

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
        for new, average in zip(given, self.averages, strict=True):
            np.copyto(average, new)
        self.decay, self.bias_correction = decay, bool(state_dict["bias_correction"])
        self._count[...] = state_dict["n_averaged"]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_memory", "_plans")}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.__dict__.update(saved)
        self._make_plans()

    def __repr__(self) -> str:
        return (f"Average(decay={self.decay}, bias_correction={self.bias_correction}, n_averaged={self.n_averaged}, "
                f"{len(self._averages)} parameters)")
