"""optimlite's optimizers for thinc's models: `optimlite.thinc.Optimizer(ol.AdamW, lr=0.001)` is thinc's `Adam(0.001)`.

    optimizer = optimlite.thinc.Optimizer(ol.AdamW, lr=0.001, max_grad_norm=1.0)
    Yh, backprop = model.begin_update(X)
    backprop(Yh - Y)
    model.finish_update(optimizer)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from .catalogue import stepping
from .engine.optimizer import Optimizer as Inner
from .engine.parameter import Parameter

__all__ = ["Optimizer"]


class Optimizer:
    """What thinc calls with a key, weights and their gradient, one parameter after the other.

    kind: a class of optimlite's.    max_grad_norm: clips by the norm of the step before; see `opt.step_parameter`.
    schedule: a function of the step that gives the learning rate, such as `ol.schedules.cosine(...)`; it counts calls
        of `step_schedules()`, as thinc's do.
    options: the arguments of `kind`.

    `inner` is the optimizer that steps, once there was a parameter; `inner.state_dict()` is what to save.  Weights are
    updated in place, and gradients, which have their shape, are zeroed, as thinc expects.  Raises TypeError for arrays
    of others than NumpyOps, for a `kind` that isn't a class of optimlite's, or that searches along lines, and for
    options that it doesn't have; ValueError for numbers outside their range, and for gradients of another shape.

        >>> import optimlite.thinc
        >>> optimizer = optimlite.thinc.Optimizer(ol.SGD, lr=0.5)
        >>> W = np.array([1.0, -2.0], np.float32)
        >>> optimizer((1, "W"), W, 2 * W)                    # as thinc's finish_update calls it
        (array([0., 0.], dtype=float32), array([0., 0.], dtype=float32))
    """

    def __init__(self, kind: type[Inner], *, max_grad_norm: float | None = None,
                 schedule: Callable[[int], float] | None = None, **options: Any) -> None:
        self._kind, self._options = stepping("kind", kind), options
        self._max_grad_norm, self._schedule = max_grad_norm, schedule
        self._parameters: dict[Hashable, Parameter] = {}
        self._places: dict[Hashable, int] = {}           # of their groups
        self.inner: Any = None
        self.averages: dict[Any, Any] | None = None      # thinc's models ask for them
        self.step = 0
        kind([np.zeros(1, np.float32)], **options)       # options that are wrong are refused here, not in the loop

    def __call__(self, key: Hashable, weights: Any, gradient: Any, *, lr_scale: float = 1.0) -> tuple[Any, Any]:
        """Steps one parameter; returns its weights and the gradient, which is zero now."""
        parameter = self._parameter(key, weights)
        groups = self.inner.param_groups
        rate = groups[0]["lr"] if self._schedule is None else self._schedule(self.step)
        own = groups[self._places[key]]
        own["lr"] = rate * lr_scale
        try:
            self.inner.step_parameter(parameter, gradient, max_grad_norm=self._max_grad_norm)
        finally:
            own["lr"] = rate
        gradient[...] = 0
        return weights, gradient

    def step_schedules(self) -> None:
        """Moves the schedule on by one."""
        self.step += 1

    def _parameter(self, key: Hashable, weights: Any) -> Parameter:
        parameter = self._parameters.get(key)
        if parameter is None:
            parameter = Parameter(weights, name=" ".join(map(str, key)) if isinstance(key, tuple) else str(key))
            if self.inner is None:
                self.inner = self._kind([parameter], **self._options)
            else:
                self.inner.add_param_group({"params": [parameter]})
            self._places[key] = len(self.inner.param_groups) - 1
        elif parameter.data is not weights:      # the model was loaded, or resized
            parameter = self.inner.replace(parameter, weights)
        self._parameters[key] = parameter
        return parameter
