"""Sharpness-aware minimization: the gradient of where the loss is worst nearby."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..checks import flag, nonnegative, shown
from ..engine.halves import exact, gradient_of
from ..engine.optimizer import Optimizer
from ..engine.parameter import Parameter
from ..engine.wrapper import Wrapper
from ..native.arrays import sum_squares
from ..swapping import Swap, held, with_shadows
from .descent import stepper

LEAST = 1e-12                    # added to the gradient's norm


class SAM(Wrapper):
    """SAM (Foret et al. 2021): another optimizer's step by the gradient at the worst point within a radius.

        g = gradient at p;  e = rho * g / (|g| + 1e-12)          (norm of all parameters together)
        a step of the optimizer from p, by the gradient at p + e

    `adaptive` (ASAM, Kwon et al. 2021) has a radius relative to each element: e = rho * p^2 * g / (|p g| + 1e-12).
    Where a group maximizes, e has the other sign.

    optimizer: any but LBFGS, ConjugateGradient, NewtonCG and those of one's own; `opt.optimizer` afterwards.
    rho: the radius.    adaptive: see above.

    `step(closure, ...)` evaluates the model twice, and takes the optimizer's own arguments but `grads`; it returns the
    loss at p.  At p + e the parameters have their own values back, to the bit, before the optimizer steps, and whatever
    the closure raises; what it writes to them there is lost.  Of 16 bits, p + e is rounded to the nearest, so what is
    less than half of a last bit is lost.  Batch statistics should be collected in the first of the
    two calls alone.  Groups, hooks, schedulers and checkpoints are the optimizer's: they may be made with either.
    Raises TypeError for what can't be wrapped, without a closure and for sparse gradients, ValueError for a `rho` that
    is negative, NaN or infinite, RuntimeError where a closure steps, or averages are swapped in.

        >>> w = np.array([3.0, 4.0])
        >>> opt = ol.SAM(ol.SGD([w], lr=0.25), rho=1.0)
        >>> opt.step(lambda: (w @ w, [2 * w]))
        np.float64(25.0)
        >>> w                                            # by the gradient at [3.6, 4.8]
        array([1.2, 1.6])
    """

    own = ("rho", "adaptive", "_stepper")

    def __init__(self, optimizer: Optimizer, rho: float = 0.05, adaptive: bool = False) -> None:
        super().__init__(optimizer)
        self.rho, self.adaptive = float(nonnegative("rho", rho)), flag("adaptive", adaptive)
        self._stepper: tuple[int, int] | None = None             # the process and thread that step

    def step(self, closure: Callable[[], Any] | None = None, **options: Any) -> Any:
        """Evaluates the closure at the parameters and at the worst point nearby; the optimizer steps by what is there.

        `closure`: clears the gradients, computes and returns the loss, or `(loss, grads)`.  Others: the optimizer's own
        but `grads`.  Returns the first loss.
        """
        if closure is None or not callable(closure):
            raise TypeError(f"SAM.step needs a closure that computes the loss and its gradients, got {shown(closure)}")
        if options.get("grads") is not None:
            raise TypeError("SAM.step takes no `grads`, since it evaluates the model twice; return (loss, grads) from "
                            "the closure")
        own = stepper(self._stepper, "SAM", "closure")
        self.__dict__["_stepper"] = own          # no call between this and `try`, in which an interrupt could come
        try:
            loss = self.evaluate(closure)
            live, moved = self.ascent()
            with contextlib.contextmanager(held)(Swap(live, moved)):
                self.evaluate(closure)
        finally:
            self.__dict__["_stepper"] = None
        self.optimizer.step(**options)
        return loss

    def evaluate(self, closure: Callable[[], Any]) -> Any:
        loss, grads = self._evaluate(closure, None)
        if grads is not None:
            self._assign(grads)
        return loss

    def ascent(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The arrays that have a gradient, and where each is to be for the second one."""
        found: list[tuple[Parameter, float]] = [
            (parameter, -1.0 if group.get("maximize") else 1.0) for group in self.param_groups
            for parameter in group["params"] if parameter.grad is not None]
        for parameter, _ in found:
            if not isinstance(parameter.grad, np.ndarray):
                raise TypeError(f"SAM takes no sparse gradients, got one of '{self.state.name_of(parameter)}'; make it "
                                f"dense with gradient.to_dense(len(parameter))")
        with np.errstate(all="ignore"):
            values = [exact(p, self.state[p]) for p, _ in found]
            sizes: list[Any] = [abs(x) if x.dtype.kind == "c" else x for x in values]
            sizes = sizes if self.adaptive else []
            grads = [np.asarray(gradient_of(p), order="C") for p, _ in found]
            scaled = [np.ascontiguousarray(sizes[k] * grad if sizes else grad) for k, grad in enumerate(grads)]
            scale = nonnegative("rho", self.rho) / (math.sqrt(sum(map(sum_squares, scaled))) + LEAST)
            return with_shadows([p for p, _ in found], [
                values[k] + p.float_type.type(sign * scale) * (sizes[k] * each if sizes else each)
                for k, ((p, sign), each) in enumerate(zip(found, scaled, strict=True))])

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_stepper": None}

    def __repr__(self) -> str:
        return f"SAM(rho={self.rho}, adaptive={self.adaptive}) of {self.optimizer!r}"

