# The public surface as text: names, signatures, what users are told of each class; and what would break calls of it.
import ast
import inspect
import types
from typing import Any

import numpy as np

import optimlite as ol
from optimlite import lr_scheduler

# What users are told of each class; the rest of its names are for optimizers and schedulers within the package.
MEMBERS = {
    "Optimizer": ("add_param_group load_state_dict state_dict step zero_grad register_step_pre_hook "
                  "register_step_post_hook register_state_dict_pre_hook register_state_dict_post_hook "
                  "register_load_state_dict_pre_hook register_load_state_dict_post_hook "
                  "defaults last_grad_norm param_groups skipped_steps state steps_taken"),
    "LBFGS": "result step", "ConjugateGradient": "result step", "NewtonCG": "result step",
    "Average": "averages bias_correction decay load_state_dict n_averaged state_dict swapped update",
    "Checkpoints": "best latest paths restore save",
    "Parameter": "accumulate_grad array data grad name",
    "SparseGrad": "dtype indices to_dense values",
    "lr_scheduler.LRScheduler": "at base_lrs get_last_lr last_epoch load_state_dict optimizer plot state_dict step",
    "lr_scheduler.ReduceLROnPlateau": "step",
}


def public() -> dict[str, Any]:
    """Every public object by name."""
    found = {name: getattr(ol, name) for name in ol.__all__}
    return found | {f"lr_scheduler.{name}": getattr(lr_scheduler, name) for name in lr_scheduler.__all__}


def surface() -> dict[str, Any]:
    found: dict[str, Any] = {name: described(name, value) for name, value in sorted(public().items())}
    found["the result of minimize"] = sorted(ol.minimize(lambda x: (float(x @ x), 2 * x), np.ones(2)))
    found["the result of least_squares"] = sorted(ol.least_squares(lambda x: x - 1, np.ones(2)))
    found["the result of minimize_batch"] = sorted(
        ol.minimize_batch(lambda x: ((x * x).sum(1), 2 * x), np.ones((2, 2))))
    return found


def described(name: str, value: Any) -> Any:
    """A function's signature, or a class's public bases, constructor and methods; nothing for a module."""
    if not inspect.isclass(value):
        return signature(value) if callable(value) else ""
    bases = [known for known, base in (public() | {"ValueError": ValueError}).items() if base in value.__mro__[1:]]
    return {"bases": bases, "constructor": constructor(value),
            "members": {member: method(value, member) for member in MEMBERS.get(name, "").split()}}


def constructor(cls: type) -> str:
    if issubclass(cls, Exception):
        return ""
    return signature(cls)


def method(cls: type, name: str) -> str:
    """The signature of a method; nothing for a property and for an attribute of the instances."""
    found = inspect.getattr_static(cls, name, None)
    return signature(found) if isinstance(found, types.FunctionType) else ""


def signature(function: Any) -> str:
    """The parameters with their defaults, without annotations."""
    found = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in found.parameters.values()]
    return str(found.replace(parameters=bare, return_annotation=found.empty))


def broken(old: str, new: str) -> list[str]:
    """Why calls that `old` accepts might fail, or mean something else, with `new`; empty if they don't."""
    here, there = parsed(new), parsed(old)
    reasons = []
    for k, (name, default) in enumerate(there["positional"]):
        if here["positional"][k:k + 1] != [(name, default)]:
            reasons.append(f"argument {k + 1} was `{name}={default}`")
    by_keyword = dict(here["positional"]) | here["keyword"]
    reasons += [f"keyword argument `{name}={default}`" for name, default in there["keyword"].items()
                if by_keyword.get(name, default if "**" in here["stars"] else "gone") != default]
    reasons += [f"`{star}`" for star in there["stars"] if star not in here["stars"]]
    known = dict(there["positional"]) | there["keyword"]
    reasons += [f"new argument `{name}` has no default" for name, default in by_keyword.items()
                if name not in known and default is None]
    if here["only by position"] > there["only by position"]:
        reasons.append("arguments are no longer taken by name")
    return reasons


def parsed(text: str) -> dict[str, Any]:
    """The parts of a signature: names with the text of their default, None where there is none."""
    [function] = ast.parse(f"def f{text}: pass").body
    assert isinstance(function, ast.FunctionDef)
    given = function.args
    names = [a.arg for a in (*given.posonlyargs, *given.args)]
    defaults = [None] * (len(names) - len(given.defaults)) + [ast.unparse(d) for d in given.defaults]
    return {"positional": [pair for pair in zip(names, defaults, strict=True) if pair[0] != "self"],
            "keyword": {a.arg: d and ast.unparse(d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True)},
            "only by position": len(given.posonlyargs),
            "stars": [star for star, found in (("*", given.vararg), ("**", given.kwarg)) if found]}
