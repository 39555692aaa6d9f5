"""What a hyper-parameter may be: one small function per rule, which returns the value or raises."""

from __future__ import annotations

import functools
import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, ParamSpec, TypeVar

import numpy as np

Check = Callable[[str, Any], Any]
P = ParamSpec("P")
R = TypeVar("R")
Init = TypeVar("Init", bound=Callable[..., None])

# The keys that schedulers and users keep in a group beside the optimizer's own.
BESIDE = {"params", "param_names", "name", "max_lr", "min_lr", "swa_lr", "base_momentum", "max_momentum"}
ALIASES = {"learning_rate": "lr", "learningrate": "lr", "alpha": "lr", "eta": "lr", "beta": "betas", "beta1": "betas",
           "beta2": "betas", "beta_1": "betas", "beta_2": "betas", "b1": "betas", "b2": "betas", "epsilon": "eps",
           "wd": "weight_decay", "l2": "weight_decay", "mu": "momentum"}
DECAYS = ("rho", "alpha", "weight_decay")    # what `decay` means: of the mean of squares, where there is one
TIED = ", and give tied weights the sum of their gradients"
VARARGUMENTS, VARKEYWORDS = 0x04, 0x08   # of a code object's flags
STORAGE = ("state_dtype", "master", "rounding", "seed", "cast_grads")    # what `**storage` stands for in a constructor
EXECUTION = ("foreach", "fused", "capturable", "differentiable")     # torch's; here kernels are always fused


def shown(value: Any) -> str:
    """What a message says of a value: its `repr` where it has one, in a line or two."""
    try:
        text = " ".join(repr(value).split())
    except Exception:                            # of somebody's class, or of a record array with broken bytes
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def number(name: str, value: Any) -> float | int:
    """A finite Python number.  NumPy scalars and one-element arrays are converted: nobody can change those in place."""
    if isinstance(value, (np.generic, np.ndarray)) and value.dtype.kind in "biuf":
        if value.size != 1:
            raise TypeError(f"`{name}` must be a single number, got an array of shape {value.shape}")
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number, got {shown(value)}"
                        + ("; ol.lr_scheduler has schedules" if callable(value) else ""))
    try:
        finite = math.isfinite(value)
    except OverflowError:                        # an int beyond float64
        finite = False
    if not finite:
        raise ValueError(f"`{name}` must be finite, got {shown(value)}")
    return value if -(1 << 53) <= value <= 1 << 53 else float(value)     # products of larger ints could pass float64


def real(value: Any, rule: str) -> float:
    """A single number of any type as a float, NaN and infinity included; `rule` begins the message for others."""
    if type(value) is float:
        return value
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    try:
        if not isinstance(value, (str, bytes)):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise TypeError(f"{rule}, got {shown(value)}")


def path_of(path: Any, name: str = "path", cure: str = "") -> str:
    """A path as text, with a leading "~/" expanded."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"`{name}` must be a path (a str or a Path), got {type(path).__name__}{cure}") from None
    return os.path.expanduser(text) if text == "~" or text.startswith("~/") else text


def interval(low: float = -math.inf, high: float = math.inf, closed: str = "both") -> Check:
    """A number from `low` to `high`; `closed` says which ends belong: "both", "left", "right" or "neither"."""
    above = operator.ge if closed in ("both", "left") else operator.gt
    below = operator.le if closed in ("both", "right") else operator.lt
    words = [f"{'>=' if above is operator.ge else '>'} {low:g}"] if low > -math.inf else []
    words += [f"{'<=' if below is operator.le else '<'} {high:g}"] if high < math.inf else []
    rule = " and ".join(words)

    def check(name: str, value: Any) -> float | int:
        result = number(name, value)
        if not (above(result, low) and below(result, high)):
            raise ValueError(f"`{name}` must be {rule}, got {result}")
        return result

    return check


nonnegative = interval(0)
positive = interval(0, closed="neither")
fraction = interval(0, 1, closed="left")


def at_least(least: int) -> Check:
    """An integer, as an int; 30.0 is one."""

    def check(name: str, value: Any) -> int:
        value = number(name, value)
        if value != int(value) or value < least:
            raise ValueError(f"`{name}` must be an integer >= {least}, got {value}")
        return int(value)

    return check


count = at_least(1)


def integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{name}` must be an integer, got {shown(value)}")
    return int(value)


def one_of(*words: str | None) -> Check:
    def check(name: str, value: Any) -> str | None:
        if not (value is None or isinstance(value, str)) or value not in words:
            *first, last = map(repr, words)
            raise ValueError(f"`{name}` must be {', '.join(first)} or {last}, got {shown(value)}")
        return value

    return check


def optional(each: Check) -> Check:
    return lambda name, value: None if value is None else each(name, value)


def or_infinite(each: Check) -> Check:
    """A check for limits, which also lets infinity pass: no limit."""
    return lambda name, value: math.inf if isinstance(value, float) and value == math.inf else float(each(name, value))


optional_count = optional(count)


def exactly(count: int, rule: str, name: str, value: Any) -> list[Any]:
    """The items of something like a list; `rule` says how many there must be, and of what."""
    listed = isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping, np.generic))
    if isinstance(value, np.ndarray):
        listed = value.ndim > 0
    items = list(islice(value, count + 1)) if listed else []
    if len(items) != count:
        raise TypeError(f"`{name}` must be {rule}, got {shown(value)}")
    return items


def pair(each: Check, count: int = 2, rule: str = "a pair of numbers") -> Check:
    def check(name: str, value: Any) -> tuple[Any, ...]:
        items = exactly(count, rule, name, value)
        return tuple(each(f"{name}[{index}]", item) for index, item in enumerate(items))

    return check


def triple(each: Check) -> Check:
    return pair(each, 3, "three numbers")


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{name}` must be True or False, got {shown(value)}")
    return bool(value)


def off(check: Check) -> bool | None:
    """The value of an option that switches it off."""
    try:
        return bool(check("", False))
    except TypeError:
        return None


def resembles(key: str, known: Iterable[str]) -> str | None:
    """The hyper-parameter that a key may misspell, if any."""
    import difflib  # here, where something is wrong: it costs a tenth of `import optimlite`

    known = list(known)
    if key.lower() == "decay":
        return next((name for name in DECAYS if name in known), None)
    if ALIASES.get(key.lower()) in known:
        return ALIASES[key.lower()]
    return next(iter(difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.75)), None)


def total(name: str, value: Any) -> np.ndarray:
    """A number that kernels move: a float64 array without axes, which stays the same object."""
    if (isinstance(value, np.ndarray) and value.shape == () and value.dtype == np.float64
            and value.flags.carray and value.dtype.isnative):
        return value
    return np.array(float(number(name, value)))


def resembling(name: str, known: Iterable[str]) -> str | None:
    """The public name that another may misspell, in whatever case."""
    import difflib

    lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6 if len(name) < 5 else 0.75)
    return lower[found[0]] if found else None


def group_keys(group: Mapping[str, Any], known: Iterable[str], optimizer: str) -> None:
    """Refuses a key that resembles a hyper-parameter; others are the user's own and are kept."""
    for key in group:
        if key in known or key in BESIDE or not isinstance(key, str) or key.startswith("initial_"):
            continue
        if meant := resembles(key, known):
            raise ValueError(f"a parameter group has the key `{key}`, which {optimizer} doesn't know; "
                             f"did you mean `{meant}`?")


def parameters_of(function: Callable[..., Any]) -> tuple[tuple[str, ...], bool]:
    """The names of a function's parameters, and whether it takes any others by name.

    As `inspect` has them but for `*args`; its own import can cost as much as half of ours.
    """
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    if code is None:                             # not a function of Python's: it checks for itself
        return (), True
    named = code.co_argcount + code.co_kwonlyargcount
    names, others = code.co_varnames[:named], bool(code.co_flags & VARKEYWORDS)
    if others and code.co_varnames[named + bool(code.co_flags & VARARGUMENTS)] == "storage":
        return (*names, *STORAGE), False
    return names, others


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """A function, or a constructor, that says which argument a misspelt one resembles; its signature stays as it is."""
    known, _ = parameters_of(function)
    name = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs:
            constructor(name, kwargs, known)
        return function(*args, **kwargs)

    return wrapper


def naming(made: set[str], call: str) -> Callable[[Init], Init]:
    """For constructors: one says which argument a misspelt one resembles, and `call` if the base's was forgotten.

    `made`: the attributes that the base's makes.  The signature stays as it is; that of a `__new__` would take its
    place for type checkers and completion.
    """

    def decorate(init: Init) -> Init:
        names, any_other = parameters_of(init)

        @functools.wraps(init)
        def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> None:
            if kwargs and not any_other:
                constructor(type(self).__name__, kwargs, names)
            init(self, *args, **kwargs)
            # not by vars(), which slows every attribute of the object for good
            if type(self).__init__ is wrapper and not all(hasattr(self, name) for name in made):
                raise TypeError(f"{type(self).__name__}.__init__ must call {call}")

        return wrapper  # type: ignore[return-value]

    return decorate


def constructor(optimizer: str, given: Iterable[str], accepted: Iterable[str]) -> None:
    """Refuses unknown arguments of a constructor or function, saying what may have been meant."""
    accepted = [name for name in accepted if name not in ("self", "params")]
    for key in given:
        if key in accepted or key == "params":
            continue
        if key in EXECUTION:
            raise TypeError(f"{optimizer} has no argument `{key}`: optimlite's kernels are always fused; leave it out")
        meant = resembles(key, accepted)
        cure = f"did you mean `{meant}`?" if meant else f"it has {', '.join(f'`{name}`' for name in accepted)}"
        cure += f"; a method's go into options={{'{key}': ...}}" if not meant and "options" in accepted else ""
        raise TypeError(f"{optimizer} has no argument `{key}`; {cure}")
