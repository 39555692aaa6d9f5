"""The base of L-BFGS and conjugate gradients: what is the same for both, and what a method has to give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .._check import shown
from ..optimizer import Group, Optimizer
from ..parameter import Parameter
from .bounds import Bounds
from .descent import Closure, Run
from .line_search import SEARCHES, Found, Phi
from .result import Result
from .vectors import Seen, Vector
from .workspace import Workspace

MOST = 40                        # evaluations of one line search, after which something else is wrong


def search(name: str, value: Any) -> Any:
    if callable(value) or (isinstance(value, str) and value in SEARCHES):
        return value
    raise ValueError(f"`{name}` must be a line search function or one of "
                     f"{', '.join(repr(key) for key in SEARCHES)}, got {shown(value)}")


def optional_search(name: str, value: Any) -> Any:
    return None if value is None else search(name, value)


class Descent(Optimizer):
    """A method that re-evaluates the model: `step(closure)` runs up to `max_iter` iterations.

    A subclass gives `direction` and the names of its vectors in the state.  Hyper-parameters belong to the whole
    optimizer and must be equal in all groups, except `lr`: the largest is the first trial step, and the others are a
    change of variables that gives each group's steepest descent its share (a group of lr 0 stands still).
    """

    def __init__(self, params: Any, defaults: Mapping[str, Any], bounds: Any, callback: Callable[[Result], Any] | None,
                 ) -> None:
        if callback is not None and not callable(callback):
            raise TypeError(f"`callback` must be callable, got {shown(callback)}")
        super().__init__(params, defaults)
        self.bounds = None if bounds is None else Bounds(bounds, self)
        self.callback = callback
        self.result = Result()
        self._common()

    def _prepare_to_step(self) -> None:
        super()._prepare_to_step()
        self._work: Any = None
        # Not a `Stepping`, which would keep every gradient of the run until its end.
        self._updating = False

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key not in ("_work", "_updating")}

    def rule(self, group: Group) -> tuple[str, dict[str, float]]:
        return "", {}                            # no compiled rule and no slots: the state is made as it is needed

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        super().add_param_group(param_group)
        self._work = None

    def _check_states(self, states: list[dict[str, Any]]) -> list[str]:
        keys = {tuple(sorted(entries)) for entries in states}
        return [f"the states belong together and must have the same entries, got {', '.join(map(str, sorted(keys)))}"
                ] if len(keys) > 1 else [f"the states belong together, and those of {len(states)} parameters fit"
                                         ] if 0 < len(states) < len(self._parameters()) else []

    # What a subclass gives -------------------------------------------------------------------------------------------

    def workspace(self, parameters: list[Parameter]) -> Workspace:
        return Workspace(parameters)

    def direction(self, run: Run) -> tuple[float, float]:
        """Fills `run.work.d` and returns the slope g.d and max |d|."""
        raise NotImplementedError

    def observe(self, run: Run, out: Vector, before: Vector) -> Seen:
        """Reads the gradients into `out`, and what the method has to know of them."""
        return run.space.observe(out, run.sign, run.work.d)

    def evaluations(self, max_iter: int) -> int:
        """`max_eval` where it isn't given."""
        return max_iter * 5 // 4

    def restart(self, run: Run) -> bool:
        """Forgets what the directions are made from; False if there was nothing to forget."""
        raise NotImplementedError

    def first_trial(self, run: Run, slope: float) -> float:
        raise NotImplementedError

    def search(self, run: Run, phi: Phi, slope: float, step: float, largest: float, max_evals: int) -> Found:
        chosen = run.group["line_search_fn"]
        chosen = SEARCHES[chosen] if isinstance(chosen, str) else chosen
        found: Found = chosen(phi, run.loss, slope, step, max_evals=min(max_evals, MOST))
        return found

    def vectors(self, work: Any) -> dict[str, Vector]:
        """What of the workspace is state, by name."""
        return {"direction": work.d, "prev_grad": work.previous} if work.pending else {}

    def adopt(self, work: Any, names: Iterable[str]) -> None:
        """Takes the vectors from the state into the workspace."""
        if work.pending:
            work.d, work.previous = work.adopt("direction", self), work.adopt("prev_grad", self)

    # Stepping --------------------------------------------------------------------------------------------------------

    def step(self, closure: Closure | None = None, *, grads: Any = None) -> Any:  # type: ignore[override]
        """Runs the method from here for up to `max_iter` iterations and returns the closure's first loss.

        `closure`: clears the gradients, computes and returns the loss, or `(loss, grads)`; called at most `max_eval`
        times.  An exception in it leaves the parameters at the last accepted point.  `self.result` says how it went.
        """
        name = type(self).__name__
        if closure is None or not callable(closure):
            raise TypeError(f"{name}.step needs a closure that computes the loss and its gradients, "
                            f"got {shown(closure)}")
        if grads is not None:
            raise TypeError(f"{name}.step takes no `grads`, since it evaluates the model several times; "
                            f"return (loss, grads) from the closure")
        if self._updating:
            raise RuntimeError("this optimizer is already stepping in another thread; "
                               "step it from one thread at a time, or use one optimizer per thread")
        self._updating = True
        try:
            return Run(self, closure).all()
        finally:
            self._updating = False

    def _common(self) -> Group:
        """The hyper-parameters, validated; equal in all groups except `lr`."""
        for group in self.param_groups:
            self._check_group(group)
        first = self.param_groups[0]
        for index, group in enumerate(self.param_groups):
            for key in self.defaults:
                if key != "lr" and group[key] != first[key]:
                    raise ValueError(f"`{key}` must be the same in every group of {type(self).__name__}, "
                                     f"got {first[key]!r} and {group[key]!r} in group {index}")
        if self.bounds and first["line_search_fn"] is None:
            raise ValueError("`bounds` need a line search, got line_search_fn=None; use 'strong_wolfe'")
        return {**first, "lr": max(group["lr"] for group in self.param_groups)}

    def _attached(self) -> Any:
        """The workspace, with the state in it: the vectors it had, or those that were loaded."""
        work = self._work
        if work is not None and work.version == self.state.version:
            return work
        parameters = self._parameters()
        work = self.workspace(parameters)
        known = [set(self.state[p]) for p in parameters]
        names = known[0] if known and all(names == known[0] for names in known) else set()
        scalars = self.state[parameters[0]] if names else {}
        work.scalars = {key: np.array(scalars.get(key, initial)) for key, initial in self.scalars.items()}
        work.pending = "prev_grad" in names
        self.adopt(work, names)
        work.version, self._work = self.state.version, work
        return work

    def _publish(self, work: Any) -> None:
        work.publish(self.vectors(work), work.scalars, self)
