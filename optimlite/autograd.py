"""`autograd.misc.optimizers` by optimlite's kernels: the same functions, with the same arguments and numbers.

    from optimlite.autograd import adam          # was: from autograd.misc.optimizers import adam
    params = adam(grad(loss), params, step_size=0.01, num_iters=500, callback=show)

`optimizer(ol.AdamW)` makes such a function of any other optimizer.  autograd itself isn't needed: `grad` may be any
function of (params, i).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .catalogue import stepping
from .checks import checked, interval, shown
from .closures.unknowns import refilled
from .engine.optimizer import Optimizer
from .optimizers.adam import Adam
from .optimizers.rmsprop import RMSprop
from .optimizers.sgd import SGD

__all__ = ["adam", "optimizer", "rmsprop", "sgd"]

Gradient = Callable[[Any, int], Any]
Callback = Callable[[Any, int, Any], Any]


@checked
def sgd(grad: Gradient, x: Any, callback: Callback | None = None, num_iters: int = 200, step_size: float = 0.1,
        mass: float = 0.9) -> Any:
    """Gradient descent with momentum.

        v = mass * v - (1 - mass) * g,    x = x + step_size * v

    grad, x, callback, num_iters: see `optimizer`, which also says what is raised.
    step_size: the learning rate.    mass: how much of v is kept.    Source: autograd.misc.optimizers.

        >>> from optimlite.autograd import sgd
        >>> sgd(lambda x, i: 2 * x, np.array([1.0, -2.0]), num_iters=1, step_size=0.25, mass=0.0)
        array([ 0.5, -1. ])
    """
    return run(lambda params: SGD(params, lr=step_size * (1 - mass), momentum=mass), grad, x, callback, num_iters)


@checked
def rmsprop(grad: Gradient, x: Any, callback: Callback | None = None, num_iters: int = 100, step_size: float = 0.1,
            gamma: float = 0.9, eps: float = 1e-8) -> Any:
    """RMSprop, whose mean of squares begins at 1.

        s = gamma * s + (1 - gamma) * g^2,    x = x - step_size * g / (sqrt(s) + eps)

    grad, x, callback, num_iters: see `optimizer`, which also says what is raised.
    step_size: the learning rate.    gamma: how much of s is kept.    eps: keeps the division from zero.
    Source: autograd.misc.optimizers.

        >>> from optimlite.autograd import rmsprop
        >>> rmsprop(lambda x, i: 2 * x, np.array([0.5]), num_iters=1, step_size=0.25).round(3)
        array([0.25])
    """
    def make(params: Any) -> Optimizer:
        made = RMSprop(params, lr=step_size, alpha=gamma, eps=eps)
        for parameter in made.param_groups[0]["params"]:
            made.state[parameter]["square_avg"] = np.ones_like(parameter.data)
        return made

    return run(make, grad, x, callback, num_iters)


@checked
def adam(grad: Gradient, x: Any, callback: Callback | None = None, num_iters: int = 100, step_size: float = 0.001,
         b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Any:
    """Adam (Kingma & Ba 2015).

    grad, x, callback, num_iters: see `optimizer`, which also says what is raised.
    step_size: the learning rate.    b1, b2, eps: `betas` and `eps` of `ol.Adam`.    Source: autograd.misc.optimizers.

        >>> from optimlite.autograd import adam
        >>> adam(lambda x, i: 2 * x, np.array([1.0, -2.0]), num_iters=1, step_size=0.25).round(3)
        array([ 0.75, -1.75])
    """
    return run(lambda params: Adam(params, lr=step_size, betas=(b1, b2), eps=eps), grad, x, callback, num_iters)


def optimizer(kind: Callable[..., Optimizer]) -> Callable[..., Any]:
    """A function `(grad, x, callback=None, num_iters=100, **options)`, as those above, for any optimizer.

    kind: such as `ol.AdamW`; `options` are its arguments.

    The function calls `grad(x, i)` for i from 0, with x in the nesting that was given: dicts, lists and tuples of
    arrays and numbers.  It returns the last x, and doesn't change the one that it got.  `callback(x, i, g)` comes
    before the step of iteration i; its arrays are its own.

    Raises TypeError for a gradient that isn't in the nesting of x and for an argument that `kind` doesn't have,
    ValueError for a gradient of another shape and for numbers outside their range.

        >>> import optimlite.autograd
        >>> adamw = optimlite.autograd.optimizer(ol.AdamW)
        >>> adamw(lambda x, i: {"w": 2 * x["w"]}, {"w": np.array([1.0, -1.0])}, num_iters=300, lr=0.1)["w"].round(3)
        array([ 0., -0.])
    """
    stepping("kind", kind)

    def optimize(grad: Gradient, x: Any, callback: Callback | None = None, num_iters: int = 100, **options: Any) -> Any:
        return run(lambda params: kind(params, **options), grad, x, callback, num_iters)

    return optimize


def run(make: Callable[[Any], Optimizer], grad: Gradient, x: Any, callback: Callback | None, num_iters: int) -> Any:
    interval(0)("num_iters", num_iters)
    params = mapped(own_array, x)
    made = make({"x": params})                   # which no dict with the keys "params" or "lr" is mistaken in
    for i in range(num_iters):
        gradient = grad(mapped(given_back, params), i)
        if gradient is None or (np.isscalar(gradient) and not is_number(x)):
            raise TypeError(f"`grad` must return the gradient in the nesting of `x`, got {shown(gradient)}; of a loss, "
                            f"give autograd's grad(loss)")
        if callback is not None:
            callback(mapped(np.copy, params), i, mapped(np.copy, gradient))
        made.step(grads={"x": mapped(plain, gradient)})
    return mapped(given_back, params)


def is_number(x: Any) -> bool:
    return np.isscalar(x) or (isinstance(x, np.ndarray) and x.ndim == 0)


def mapped(function: Callable[[Any], Any], node: Any) -> Any:
    """The same nesting, with what a function makes of each leaf."""
    if isinstance(node, Mapping):
        return {key: mapped(function, child) for key, child in node.items()}
    if isinstance(node, (list, tuple)):
        return refilled(node, [mapped(function, child) for child in node])
    return function(node)


def own_array(leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    return np.array(array, np.float32 if array.dtype == np.float32 else np.float64)


def plain(leaf: Any) -> Any:
    """A gradient in the type that parameters have: autograd's own optimizers take integers and numbers, too."""
    return leaf if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f" else np.asarray(leaf, np.float64)


def given_back(array: np.ndarray) -> Any:
    """A number where a number was given."""
    return array if array.ndim else array[()]
