"""The optimizers by name: what there is, what each needs, and one made from a configuration's text."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import late_imports
from .checks import resembling, shown
from .closures.closure_optimizer import ClosureOptimizer
from .engine.optimizer import Optimizer
from .engine.rule_optimizer import RuleOptimizer
from .engine.whole_matrix import MatrixOptimizer
from .native import dispatch

WRAPPERS = ("Lookahead", "SAM")
KINDS = ("elementwise", "measuring", "matrix", "closure")
MATRIX = (1024, 1024)            # large enough that what is by row counts for little

# What other libraries call them, without hyphens and in small letters; with the options that the name stands for.
COMMON: dict[str, tuple[str, dict[str, Any]]] = {
    "momentum": ("SGD", {"momentum": 0.9}), "sgdm": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}), "nag": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "amsgrad": ("Adam", {"amsgrad": True}),
    "nadamw": ("NAdam", {"decoupled_weight_decay": True}), "radamw": ("RAdam", {"decoupled_weight_decay": True}),
    "adoptw": ("ADOPT", {"decoupled_weight_decay": True}),
    "lambc": ("LAMB", {"max_trust_ratio": 1.0}), "larc": ("LARS", {"trust_clip": True}),
    "nvnovograd": ("NovoGrad", {}), "dadaptation": ("DAdaptAdam", {}), "schedulefree": ("ScheduleFreeAdamW", {}),
    "adamwschedulefree": ("ScheduleFreeAdamW", {}), "sgdschedulefree": ("ScheduleFreeSGD", {}),
    "radamschedulefree": ("ScheduleFreeRAdam", {}), "cg": ("ConjugateGradient", {}),
    "nonlinearcg": ("ConjugateGradient", {}),
}


class Needs(NamedTuple):
    """What an optimizer needs, with the options that it has by default."""

    kind: str                    # one of KINDS
    state_bytes: float | None    # for each element of a large float32 matrix; None: as its history is long

    @property
    def elementwise(self) -> bool:
        """Whether an element's update depends on that element alone."""
        return self.kind == "elementwise"

    @property
    def closure(self) -> bool:
        """Whether `step` takes a function that computes loss and gradients, several times."""
        return self.kind == "closure"


def available(kind: str | None = None) -> dict[str, Needs]:
    """The optimizers by name, and what each needs: `kind`, `state_bytes`, `elementwise`, `closure`.

    kind: those of one kind alone.  "elementwise": an element's update depends on its own gradient; "measuring": on sums
        over its tensor, rows or all tensors, too, which costs another pass over the arrays; "matrix": on products of
        whole matrices; "closure": `step` evaluates the model several times.

    `state_bytes` are those of each element of a large float32 matrix, by default options; None where they grow with a
    history.  Raises ValueError for another kind.

        >>> list(ol.available("closure"))
        ['ConjugateGradient', 'LBFGS', 'NewtonCG']
        >>> ol.available()["AdamW"].state_bytes
        8.0
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"`kind` must be None or one of {', '.join(map(repr, KINDS))}, got {shown(kind)}")
    found = {name: needs_of(named(name)) for name in sorted(names(), key=str.lower)}
    return {name: needs for name, needs in found.items() if kind in (None, needs.kind)}


def create(name: str, params: Any, **options: Any) -> Optimizer:
    """An optimizer by its name: `create("adamw", params, lr=1e-3)` is `AdamW(params, lr=1e-3)`.

    name: a class's name, in any case, with hyphens, underscores or none ("adam-w", "L_BFGS"), or what other libraries
        call it: "sgdm", "nesterov", "amsgrad", "nadamw", "lambc", "larc", "cg"; after a "c" cautious, as "clion".
    params: the arrays or Parameters to update, as the class takes them.
    options: its hyper-parameters; they win over those that a name stands for.

    Raises TypeError for a name that isn't text, ValueError for one that nothing has, and what the class raises.

        >>> ol.create("c-adamw", [np.zeros(3)], lr=0.1).param_groups[0]["cautious"]
        True
    """
    if not isinstance(name, str):
        raise TypeError(f"`name` must be the name of an optimizer, such as 'adamw', got {shown(name)}")
    known: dict[str, tuple[str, dict[str, Any]]] = COMMON | {plain(each): (each, {}) for each in names()}
    wanted = plain(name)
    if wanted in known:
        found, meant = known[wanted]
        return made(found, params, meant | options)
    if wanted[:1] == "c" and wanted[1:] in known:
        found, meant = known[wanted[1:]]
        if "cautious" in named(found).checks:
            return made(found, params, meant | {"cautious": True} | options)
    for wrapper in WRAPPERS:
        if wanted == plain(wrapper):
            raise ValueError(f"`name` must be the name of an optimizer, got {name!r}, which wraps one; "
                             f"use ol.{wrapper}(ol.create(...))")
    near = resembling(wanted, known)
    cure = f"did you mean '{known[near][0]}'?" if near else "ol.available() has all names"
    raise ValueError(f"`name` must be the name of an optimizer, got {name!r}; {cure}")


def stepping(argument: str, kind: Any) -> Any:
    """What makes an optimizer for a loop that has gradients: a class, or a function of `params`; raises for others."""
    meant = type(kind).__name__ if isinstance(kind, Optimizer) else "AdamW"
    if not callable(kind) or (isinstance(kind, type) and not issubclass(kind, Optimizer)):
        raise TypeError(f"`{argument}` must be a class of optimlite's, got {shown(kind)}; give ol.{meant} itself, and "
                        f"its arguments beside")
    if isinstance(kind, type) and issubclass(kind, ClosureOptimizer):
        raise TypeError(f"`{argument}` must step by a gradient, got {kind.__name__}, which evaluates the model several "
                        f"times; use ol.minimize")
    return kind


def made(name: str, params: Any, options: dict[str, Any]) -> Optimizer:
    kind: Any = named(name)
    optimizer: Optimizer = kind(params, **options)
    return optimizer


def names() -> list[str]:
    """Of the optimizers, without importing them; functions beside them have small letters."""
    return [name for name, module in late_imports.MODULES.items()
            if module.startswith(("optimizers.", "closures.")) and name[0].isupper() and name not in WRAPPERS]


def plain(name: str) -> str:
    """Without a module before it, hyphens and capitals."""
    return "".join(letter for letter in name.rpartition(".")[2].lower() if letter.isalnum())


def named(name: str) -> type[Optimizer]:
    found: type[Optimizer] = getattr(late_imports.imported(f"{__package__}.{late_imports.MODULES[name]}"), name)
    return found


def needs_of(kind: type[Optimizer]) -> Needs:
    if issubclass(kind, ClosureOptimizer):
        return Needs("closure", None)
    optimizer = made(kind.__name__, [np.empty(MATRIX, np.float32)], {})       # untouched, so it is never in memory
    assert isinstance(optimizer, RuleOptimizer)
    [group] = optimizer.param_groups
    [parameter] = group["params"]
    sizes = [float(np.prod(shape)) for shape in optimizer.state_shapes(group, parameter).values()]
    rule = optimizer.rules(group)[optimizer.which_rule(parameter)][0]
    measures = dispatch.kernel(rule, parameter.dtype).measures
    return Needs("matrix" if issubclass(kind, MatrixOptimizer) else "measuring" if measures else "elementwise",
                 4 * sum(sizes) / parameter.size)
