"""The Optimizer side of L-BFGS and conjugate gradients: groups, state, bounds, and `step(closure)`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from ..checks import count, nonnegative, optional, optional_count, shown
from ..engine.method import Group
from ..engine.optimizer import Optimizer
from ..engine.parameter import Parameter, check_still_writeable
from .bounds import Bounds
from .by_parameter import ByParameter
from .descent import NO_GRADIENT, Descent, stepper
from .l1 import Weights
from .method import Method
from .preconditioner import InnerSpace, given_h0
from .result import Result
from .search_choice import suits
from .vectors import VectorSpace
from .workspace import Workspace

Closure = Callable[[], Any]
# What the hyper-parameters may be that all of these methods have.
LIMITS = {"max_iter": count, "max_eval": optional_count, "tolerance_grad": nonnegative, "tolerance_change": nonnegative,
          "tolerance_loss": optional(nonnegative)}


class ClosureOptimizer(Optimizer):
    """A method that re-evaluates the model: `step(closure)` runs up to `max_iter` iterations.

    A subclass names its `method_class`.  Hyper-parameters belong to the whole optimizer and must be equal in all
    groups, except `lr`: the largest is the first trial step, and the others are a change of variables that gives each
    group's steepest descent its share (a group of lr 0 stands still).
    """

    method_class: ClassVar[type[Method]]
    begins_anew = True
    _l1: Weights | None = None                   # for optimizers that were pickled before there was one
    comm: Any = None                             # whose ranks have other unknowns; copies have none

    def __init__(self, params: Any, defaults: Mapping[str, Any], bounds: Any, callback: Callable[[Result], Any] | None,
                 h0: Any = None, inner: Callable[..., Any] | None = None, l1: Any = None, comm: Any = None) -> None:
        if inner is not None and not callable(inner):
            raise TypeError(f"`inner` must be a function of two lists of arrays, got {shown(inner)}")
        if callback is not None and not callable(callback):
            raise TypeError(f"`callback` must be callable, got {shown(callback)}")
        super().__init__(params, defaults)
        if comm is not None:
            from ..engine.ranks import check_communicator

            if l1 is not None:
                raise ValueError("`l1` can't be had with `comm`, whose ranks don't add up its norm; leave one out")
            self.comm = check_communicator(comm)
        self.bounds, self._l1 = bounds, self._weights(l1)
        self.callback, self.inner, self.h0 = callback, inner, h0
        given_h0(h0, self._parameters(), self._names())
        self.result = Result()
        self._common_options()

    @property
    def bounds(self) -> Any:
        return self._bounds

    @bounds.setter
    def bounds(self, bounds: Any) -> None:
        known = bounds is None or isinstance(bounds, Bounds)
        self._bounds = bounds if known else Bounds(bounds, self._parameters(), self._names())

    def _weights(self, l1: Any) -> Weights | None:
        known = l1 is None or isinstance(l1, Weights)
        return (l1 if known else Weights(l1, self._parameters(), self._names())) or None

    @property
    def _given(self) -> list[ByParameter]:
        """The bounds and weights that were given: steps end at the kinks that these make."""
        return [given for given in (self._bounds, self._l1) if given is not None]

    # State -----------------------------------------------------------------------------------------------------------

    def _prepare_to_step(self) -> None:
        super()._prepare_to_step()
        self._method: Method | None = None
        self._known = -1                         # the version of the state that the method has
        # The process and thread that step.  Not a `Stepping`, which would keep every gradient of the run until its end.
        self._stepper: tuple[int, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        here = ("_method", "_known", "_stepper", "comm")
        return {key: value for key, value in super().__getstate__().items() if key not in here}

    def _rearranged(self) -> None:
        super()._rearranged()
        self._start_anew()

    def remove(self, parameter: Parameter | np.ndarray | str) -> None:
        found = self.state.find(parameter)
        super().remove(found)
        for given in self._given:
            given.removed(found)

    def replace(self, parameter: Parameter | np.ndarray | str, new: Parameter | np.ndarray, rows: Any = None,
                ) -> Parameter:
        old = self.state.find(parameter)
        for given in self._given:
            given.check_replaced(old, new, self.state.name_of(old))
        made = super().replace(old, new, rows)
        for given in self._given:
            given.replaced(old, made)
        return made

    def _start_anew(self) -> None:
        """Forgets directions that were made over other parameters."""
        for state in list(self.state.values()):
            state.clear()
        self._method = None

    def _check_states(self, states: list[dict[str, Any]]) -> list[str]:
        keys = {tuple(sorted(entries)) for entries in states}
        if len(keys) > 1:
            return [f"the states belong together and must have the same entries, "
                    f"got {', '.join(map(str, sorted(keys)))}"]
        if 0 < len(states) < len(self._parameters()):
            return [f"the states belong together, and those of {len(states)} parameters fit"]
        return []

    @property
    def _reassigned(self) -> bool:
        """Whether the user assigned to group["params"]."""
        return self._method is not None and self._method.space.parameters != self._parameters()

    def _current_method(self) -> Method:
        """The method, with the state in it: the vectors it had, or those that were loaded."""
        parameters = self._parameters()
        if self._reassigned:
            if self._known == self.state.version:        # and loaded nothing since
                self._start_anew()
            self._method = None
        if self._method is not None and self._known == self.state.version:
            return self._method
        if self.comm is not None:
            from .distributed import space_over  # most programs have one process

            space = space_over(self.comm, parameters, self.inner)
        else:
            space = VectorSpace(parameters) if self.inner is None else InnerSpace(parameters, self.inner)
        method = self.method_class(Workspace(space))
        known = [set(self.state[p]) for p in parameters]
        names = known[0] if known and all(names == known[0] for names in known) else set()
        saved = self.state[parameters[0]] if names else {}
        method.work.scalars = {key: np.array(saved.get(key, initial))
                               for key, initial in (*self.scalars.items(), *self.later_scalars.items())}
        method.work.pending = "prev_grad" in names
        method.adopt(names, self.state)
        self._method, self._known = method, self.state.version
        return method

    def _common_options(self) -> Group:
        """The hyper-parameters, validated; equal in all groups except `lr`."""
        for group in self.param_groups:
            self.check_group(group)
        first = self.param_groups[0]
        for index, group in enumerate(self.param_groups):
            for key in self.defaults:
                if key != "lr" and group[key] != first[key]:
                    raise ValueError(f"`{key}` must be the same in every group of {type(self).__name__}, "
                                     f"got {first[key]!r} and {group[key]!r} in group {index}")
        for given in self._given:
            if first["line_search_fn"] is None:
                raise ValueError(f"`{given.name}` must have a line search, got line_search_fn=None; use 'strong_wolfe'")
            if self.inner is not None:
                raise ValueError(f"`{given.name}` must have the plain inner product, got `inner`; leave one out")
        if first["search_options"]:
            suits(first["search_options"], first["line_search_fn"], self.method_class.searches(bool(self._given)))
        rates = {group["lr"] for group in self.param_groups}
        for name, value in (("h0", self.h0), ("l1", self._l1)):
            if value is not None and len(rates) > 1:
                raise ValueError(f"`{name}` must have the same `lr` in all groups, whose ratios are a scaling of their "
                                 f"own, got {sorted(rates)}")
        return {**first, "lr": max(rates)}

    def _checked(self) -> Group:
        """The hyper-parameters; refuses what one rank can't step, while the others can still hear of it."""
        options = self._common_options()
        if self._reassigned:
            self.check_parameters()
        for parameter in self._parameters():
            check_still_writeable(parameter.data, self.state.name_of(parameter))
        return options

    def metrics(self) -> dict[str, float]:
        """As for any optimizer, and beside it how the last step's iterations went."""
        result = self.result
        return super().metrics() | {"loss": result.loss, "grad_max": result.grad_norm, "step_length": result.step,
                                    "iterations": result.iterations, "evaluations": result.evaluations}

    # Stepping --------------------------------------------------------------------------------------------------------

    def step(self, closure: Closure | None = None, *, grads: Any = None, **unsupported: Any) -> Any:
        """Runs the method from here for up to `max_iter` iterations and returns the closure's first loss.

        `closure`: clears the gradients, computes and returns the loss, or `(loss, grads)`; called at most `max_eval`
        times.  An exception in it leaves the parameters at the last accepted point.  `self.result` says how it went.
        The other arguments of `step` (grad_scale, max_grad_norm, …) aren't taken.
        """
        name = type(self).__name__
        if unsupported:
            raise TypeError(f"{name}.step takes no `{next(iter(unsupported))}`: a line search needs the gradients of "
                            f"the very loss that the closure returns; leave it out, or make it part of the loss")
        if closure is None or not callable(closure):
            raise TypeError(f"{name}.step needs a closure that computes the loss and its gradients, "
                            f"got {shown(closure)}")
        if grads is not None:
            raise TypeError(f"{name}.step takes no `grads`, since it evaluates the model several times; "
                            f"return (loss, grads) from the closure")
        self._stepper = stepper(self._stepper, name, "closure or callback")
        try:
            first = self._descent(closure).run()
        finally:
            self._stepper = None
        if self.result.reason == NO_GRADIENT and not self._warned:
            self._warned = True
            warnings.warn(NO_GRADIENT, stacklevel=3)
        return first

    def _descent(self, closure: Closure) -> Descent:
        over = None
        if self.comm is not None:
            from .distributed import Over

            over = Over(self.comm, bounds=self._bounds, h0=self.h0, inner=self.inner, callback=self.callback)
        options = self._checked() if over is None else over.options(self._checked)
        method = self._current_method()
        top, rates = options["lr"], [group["lr"] for group in self.param_groups for _ in group["params"]]
        method.options = options
        method.h0 = given_h0(self.h0, self._parameters(), self._names())
        method.space.rescale([math.sqrt(lr / top) for lr in rates] if any(lr != top for lr in rates) else [],
                             -1.0 if options["maximize"] else 1.0)
        method.work.bind(self._bounds.box(method.space) if self._bounds else None, self._l1)

        def model() -> Any:
            loss, grads = self._evaluate(closure, None)
            if grads is not None:
                self._assign(grads)
            return loss

        def publish() -> None:
            method.work.publish(method.vectors(), self.state)

        self.result, callback = Result(), self.callback
        if over is None:
            return Descent(method, options, self.result, model, publish, callback)
        method.h0 = method.h0 and over.h0(method.h0)
        return Descent(method, options, self.result, over.model(model, self._parameters()), publish,
                       callback and over.callback(callback))
