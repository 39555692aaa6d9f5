# Runs that one version begins and every later one goes on with: a table, shared with golden/make_compatibility.py.
# Only what users may rely on is used here, and nothing of NumPy's generators that a version of NumPy may change.
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import optimlite as ol
from support.trajectories import noise

FOLDER = Path(__file__).parent / "golden" / "compatibility"
BEFORE, AFTER = 8, 6                     # steps until a run is saved, and from there to its recorded end
CLOSURE_STEPS = 2                        # of up to 3 iterations each, before and after
PROTOCOL = 4                             # of pickle: every Python that optimlite supports reads it


class Case(NamedTuple):
    """An optimizer with options, and the kind of its parameters (SHAPES) and gradients."""

    optimizer: str
    options: dict[str, Any]
    kind: str = "dense"

    @property
    def name(self) -> str:
        parts = (f"{key}={value}" for key, value in self.options.items() if key not in ("lr", "max_iter"))
        kind = [self.kind] if self.kind in ("list", "rows") else []
        return "-".join([self.optimizer, *parts, *kind]).translate(str.maketrans("", "", " ()'+")).replace(",", "_")


# Every optimizer, with every kind of state that its options give it.
CASES = [
    Case("SGD", {"lr": 0.1}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    Case("Adam", {"lr": 0.01}),
    Case("Adam", {"lr": 0.01}, "list"),
    Case("Adam", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "amsgrad": True, "weight_decay": 0.1}),
    Case("Adam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    Case("AdamW", {"lr": 0.01}),
    Case("AdamW", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.3}),
    Case("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-3}),
    Case("Adadelta", {"lr": 0.5, "rho": 0.7, "weight_decay": 0.1}),
    Case("Adamax", {"lr": 0.01, "betas": (0.8, 0.9)}),
    Case("NAdam", {"lr": 0.01, "momentum_decay": 0.1}),
    Case("NAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case("RAdam", {"lr": 0.01}),
    Case("RAdam", {"lr": 0.01, "betas": (0.9, 0.8), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case("RMSprop", {"lr": 0.01}),
    Case("RMSprop", {"lr": 0.01, "centered": True}),
    Case("RMSprop", {"lr": 0.01, "momentum": 0.9}),
    Case("RMSprop", {"lr": 0.01, "alpha": 0.7, "momentum": 0.5, "centered": True, "weight_decay": 0.1}),
    Case("Rprop", {"lr": 0.1, "etas": (0.7, 1.4), "step_sizes": (0.08, 0.15)}),
    Case("ASGD", {"lr": 0.1, "lambd": 0.1, "alpha": 0.6, "t0": 3}),
    Case("Adafactor", {"lr": 0.1}),
    Case("Adafactor", {"lr": 0.5, "beta2_decay": -0.5, "eps": (1e-2, 0.1), "d": 1.3, "weight_decay": 0.1}),
    Case("Muon", {"lr": 0.05}, "matrices"),
    Case("Muon", {"lr": 0.1, "nesterov": False, "ns_steps": 3, "adjust_lr_fn": "match_rms_adamw"}, "matrices"),
    Case("SparseAdam", {"lr": 0.1}, "rows"),
    Case("SGD", {"lr": 0.1, "momentum": 0.8}, "rows"),
    Case("Adagrad", {"lr": 0.1, "lr_decay": 0.2}, "rows"),
    *(Case("LBFGS", {"lr": lr, "max_iter": 3, "history_size": 4, "line_search_fn": search}, "closure")
      for search, lr in ((None, 0.3), ("strong_wolfe", 1.5), ("nocedal_wright", 1.5), ("hager_zhang", 1.5),
                         ("backtracking", 1.5))),
    Case("LBFGS", {"max_iter": 3, "line_search_fn": "hager_zhang", "bounds": (-0.5, 0.5)}, "closure"),
    *(Case("ConjugateGradient", {"max_iter": 3, "beta": beta}, "closure")
      for beta in ("polak-ribiere+", "hestenes-stiefel", "hager-zhang")),
]

# Two groups: named parameters of both types and layouts, one without axes, and one that never has a gradient.  Or one:
# a list without names, or the unknowns of a closure.
SHAPES = {
    "dense": [{"W": (3, 4), "b": (5,)}, {"F": (4, 3), "s": (), "idle": (2,)}],
    "matrices": [{"W": (3, 4), "T": (6, 2)}, {"F": (4, 3), "idle": (2, 2)}],
    "rows": [{"W": (7, 3), "b": (5,)}, {"E": (4, 3), "idle": (2, 2)}],
    "list": [{"0": (3, 4), "1": (5,)}],
    "closure": [{"W": (3, 4), "b": (5,), "s": ()}],
}


def model(kind: str, filled: bool = True) -> list[dict[str, np.ndarray]]:
    """The parameters of each group: float32 in the first of two, else float64; zeros unless `filled`."""
    shapes = SHAPES[kind]
    dtypes = ["float32", "float64"] if len(shapes) == 2 else ["float64"]
    return [{name: np.array(filled * noise(10 * g + k, *shape), dtype, order="F" if name == "F" else "C")
             for k, (name, shape) in enumerate(group.items())}
            for g, (group, dtype) in enumerate(zip(shapes, dtypes, strict=True))]


def named(params: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """All parameters by name: views, or copies for a record."""
    return {name: array for group in params for name, array in group.items()}


def copies(params: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: array.copy(order="K") for name, array in named(params).items()}


def build(optimizer: str, kind: str, params: list[dict[str, np.ndarray]], options: dict[str, Any]) -> ol.Optimizer:
    """One group as a list or by name, or two of which the second has a learning rate of its own."""
    make = getattr(ol, optimizer)
    if len(params) == 1:
        [only] = params
        return make(list(only.values()) if kind == "list" else only, **options)
    first, second = params
    return make([{"params": first}, {"params": second, "lr": 0.03}], **options)


def gradient(kind: str, t: int, k: int, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """The gradient of parameter k in step t; every fifth step has none."""
    if (t + k) % 5 == 4:
        return None
    values = np.asarray(noise(100 * (t + 1) + k, *shape), dtype)
    if kind != "rows":
        return values
    rows = np.arange(t, t + 3) * (k + 2) % shape[0]              # now and then one of them twice
    return ol.SparseGrad(rows, np.ascontiguousarray(values[: len(rows)]))


class Closure:
    """sum(w/2 r^2 + r^4/4) over all elements, r = x - goal, w from 1 to 36; the sum is exact."""

    def __init__(self, params: list[dict[str, np.ndarray]]) -> None:
        [self.params] = params
        self.goals = {name: noise(900 + k, *p.shape) for k, (name, p) in enumerate(self.params.items())}

    def __call__(self) -> tuple[float, dict[str, np.ndarray]]:
        terms, gradients = [], {}
        for name, p in self.params.items():
            w = (1.0 + np.arange(p.size) % 6).reshape(p.shape) ** 2
            r = p - self.goals[name]
            terms += np.ravel(0.5 * w * r * r + 0.25 * (r * r) * (r * r)).tolist()
            gradients[name] = np.asarray(w * r + r * r * r)
        return math.fsum(terms), gradients


def advance(optimizer: ol.Optimizer, kind: str, params: list[dict[str, np.ndarray]], first: bool) -> None:
    """The steps up to where a run is saved, or from there to its end."""
    if kind == "closure":
        for _ in range(CLOSURE_STEPS):
            optimizer.step(Closure(params))
        return
    for t in range(BEFORE) if first else range(BEFORE, BEFORE + AFTER):
        every = enumerate(named(params).items())
        optimizer.step(grads={name: None if name == "idle" else gradient(kind, t, k, p.shape, p.dtype)
                              for k, (name, p) in every})


def scheduled(scheduler: ol.lr_scheduler.LRScheduler, optimizer: ol.Optimizer, params: list[dict[str, np.ndarray]],
              average: ol.Average, steps: range) -> None:
    """Dense steps of a training that has everything: a scheduler and an average beside the optimizer."""
    for t in steps:
        optimizer.step(grads={name: gradient("dense", t, k, p.shape, p.dtype)
                              for k, (name, p) in enumerate(named(params).items())})
        scheduler.step()
        average.update()


def training() -> tuple[list[dict[str, np.ndarray]], ol.Optimizer, ol.lr_scheduler.LRScheduler, ol.Average]:
    """Model, optimizer, a composition of schedulers, and an average."""
    from optimlite import lr_scheduler as ls

    params = model("dense")
    optimizer = build("AdamW", "dense", params, {"lr": 0.05, "amsgrad": True})
    scheduler = ls.SequentialLR(optimizer, [ls.LinearLR(optimizer, 0.25, total_iters=4), ls.PolynomialLR(optimizer, 8)],
                                [4])
    return params, optimizer, scheduler, ol.Average(params, 0.9, bias_correction=True)


# What `optimlite.save` may be given beside: plain values, every type of array, every layout, nestings.
VALUES: dict[str, Any] = {
    "epoch": 3, "large": 2**70, "loss": 0.1, "best": math.inf, "note": "günstig", "done": False, "nothing": None,
    "nested": {"list": [1, {"pair": (2, "three")}], "empty": {}, "none": []},
}
ARRAYS: dict[str, np.ndarray] = {
    **{name: np.array([0, 1, 5], name) for name in ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32",
                                                    "int64", "uint64", "float16", "float32", "float64")},
    "without axes": np.array(2.5), "empty": np.zeros((0, 3), np.float32),
    "Fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}
