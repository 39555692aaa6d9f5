# The trajectories on which optimlite and torch must agree: optimizers x options, and gradients that depend on neither.
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

STEPS = 1000
SNAPSHOTS = (1, 2, 3, 5, 10, 100, 500, STEPS)
DTYPES = ("float32", "float64")

# Relative to the largest element of the tensor.  In float32: the rounding between two correct orders of operations.
BOUNDS = {"float32": 1e-5, "float64": 1e-10}

# The rows of the table whose optimizer optimlite has.  A name added here switches on every test of the row.
READY = ("SGD", "Adam", "AdamW", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "ASGD",
         "Adafactor", "Muon", "SparseAdam", "SGD-sparse", "Adagrad-sparse")

# The first two tensors belong to the first parameter group, the others to the second.
DENSE = ((3, 4), (19,), (), (2, 3, 4))
MATRICES = ((4, 6), (6, 3), (5, 5), (1, 7))
TABLES = ((10, 3), (8,), (9, 5), (6, 2, 2))


@dataclass(frozen=True)
class Case:
    """One trajectory: an optimizer, its options, and what happens to its groups on the way."""

    row: str
    name: str
    optimizer: str
    options: dict[str, Any]
    second: dict[str, Any]  # overrides of the second group
    shapes: tuple[tuple[int, ...], ...]
    changes: dict[int, dict[str, Any]] = field(default_factory=dict)  # assigned to the first group before these steps
    joins: int = 1  # the step before which the second group is added


def row(
    optimizer: str,
    *variations: dict[str, Any],
    second: dict[str, Any],
    changes: dict[int, dict[str, Any]],
    shapes: tuple[tuple[int, ...], ...] = DENSE,
    title: str = "",
) -> list[Case]:
    """The cases of one optimizer: with its defaults, with each variation of its options, and changed on the way."""
    title = title or optimizer
    cases = [
        Case(title, "-".join([title, *options]), optimizer, options, second, shapes) for options in ({}, *variations)
    ]
    return [*cases, Case(title, f"{title}-changed", optimizer, {}, second, shapes, changes, joins=30)]


# Each optimizer alone with its defaults, then with each option in turn, then with all of them away from their defaults.
# fmt: off
ROWS = [
    row("SGD", {"lr": 3e-3}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"maximize": True},
        {"momentum": 0.9, "dampening": 0.5}, {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.8, "dampening": 0.1, "weight_decay": 0.05, "maximize": True},
        {"momentum": 0.95, "nesterov": True, "weight_decay": 0.02, "maximize": True},
        second={"lr": 5e-4, "weight_decay": 0.03},
        changes={20: {"momentum": 0.9}, 60: {"lr": 4e-4, "weight_decay": 0.01},
                 400: {"nesterov": True}, 700: {"nesterov": False, "dampening": 0.3}}),
    row("Adam", {"lr": 2e-3}, {"betas": (0.8, 0.95)}, {"eps": 0.03}, {"weight_decay": 0.1}, {"amsgrad": True},
        {"maximize": True}, {"weight_decay": 0.05, "decoupled_weight_decay": True},
        {"betas": (0.95, 0.99), "eps": 1e-3, "weight_decay": 0.03, "amsgrad": True, "maximize": True},
        second={"lr": 4e-4, "betas": (0.85, 0.98)},
        changes={20: {"lr": 2e-3, "eps": 1e-4}, 60: {"betas": (0.7, 0.99)},
                 400: {"weight_decay": 0.02, "maximize": True}}),
    row("AdamW", {"lr": 2e-3}, {"betas": (0.8, 0.95)}, {"eps": 0.03}, {"weight_decay": 0.3}, {"amsgrad": True},
        {"maximize": True},
        {"betas": (0.95, 0.99), "eps": 1e-3, "weight_decay": 0, "amsgrad": True, "maximize": True},
        second={"lr": 4e-4, "betas": (0.85, 0.98)},
        changes={20: {"lr": 2e-3, "eps": 1e-4}, 60: {"betas": (0.7, 0.99)},
                 400: {"weight_decay": 0.1, "maximize": True}}),
    row("Adagrad", {"lr": 3e-2}, {"lr_decay": 0.01}, {"weight_decay": 0.1}, {"initial_accumulator_value": 0.5},
        {"eps": 0.1}, {"maximize": True},
        {"lr_decay": 1e-3, "weight_decay": 0.02, "initial_accumulator_value": 0.1, "eps": 1e-3, "maximize": True},
        second={"lr": 5e-3, "lr_decay": 2e-3},
        changes={20: {"lr": 2e-2}, 60: {"lr_decay": 0.01}, 400: {"weight_decay": 0.02, "eps": 1e-2}}),
    row("Adadelta", {"lr": 0.5}, {"rho": 0.8}, {"eps": 1e-5}, {"weight_decay": 0.1}, {"maximize": True},
        {"rho": 0.95, "eps": 3e-6, "weight_decay": 0.02, "maximize": True},
        second={"lr": 0.3, "rho": 0.85},
        changes={20: {"lr": 0.5}, 60: {"rho": 0.95}, 400: {"weight_decay": 0.02, "eps": 1e-5}}),
    row("Adamax", {"lr": 1e-3}, {"betas": (0.8, 0.95)}, {"eps": 0.03}, {"weight_decay": 0.1}, {"maximize": True},
        {"betas": (0.95, 0.9), "eps": 1e-3, "weight_decay": 0.03, "maximize": True},
        second={"lr": 4e-4, "betas": (0.85, 0.98)},
        changes={20: {"lr": 1e-3}, 60: {"betas": (0.7, 0.99)}, 400: {"weight_decay": 0.02, "eps": 1e-2}}),
    row("NAdam", {"lr": 1e-3}, {"betas": (0.8, 0.95)}, {"eps": 0.03}, {"weight_decay": 0.1}, {"momentum_decay": 0.04},
        {"maximize": True}, {"weight_decay": 0.05, "decoupled_weight_decay": True},
        {"betas": (0.95, 0.99), "eps": 1e-3, "weight_decay": 0.03, "momentum_decay": 0.01, "maximize": True},
        second={"lr": 4e-4, "momentum_decay": 0.02},
        changes={20: {"lr": 1e-3}, 60: {"betas": (0.7, 0.99)}, 400: {"weight_decay": 0.02, "momentum_decay": 0.01}}),
    row("RAdam", {"lr": 2e-3}, {"betas": (0.8, 0.95)}, {"eps": 0.03}, {"weight_decay": 0.1}, {"maximize": True},
        {"weight_decay": 0.05, "decoupled_weight_decay": True},
        {"betas": (0.9, 0.6), "weight_decay": 0.01},  # 2 / (1 - 0.6) - 1 < 5: never rectified
        {"betas": (0.95, 0.99), "eps": 1e-3, "weight_decay": 0.03, "maximize": True},
        second={"lr": 4e-4, "weight_decay": 0.02},
        changes={20: {"lr": 2e-3}, 60: {"betas": (0.7, 0.99)}, 400: {"weight_decay": 0.02, "eps": 1e-2}}),
    row("RMSprop", {"lr": 1e-3}, {"alpha": 0.9}, {"eps": 0.03}, {"weight_decay": 0.1}, {"momentum": 0.5},
        {"centered": True}, {"maximize": True},
        {"alpha": 0.95, "eps": 1e-3, "weight_decay": 0.03, "momentum": 0.7, "centered": True, "maximize": True},
        second={"lr": 4e-4, "alpha": 0.97},
        changes={20: {"lr": 1e-3}, 60: {"alpha": 0.9}, 400: {"weight_decay": 0.02, "eps": 1e-2}}),
    row("Rprop", {"lr": 3e-2}, {"etas": (0.8, 1.3)}, {"step_sizes": (1e-3, 0.02)}, {"maximize": True},
        {"etas": (0.7, 1.4), "step_sizes": (1e-4, 0.1), "maximize": True},
        second={"lr": 5e-3, "step_sizes": (1e-5, 0.01)},
        changes={20: {"etas": (0.9, 1.2)}, 60: {"step_sizes": (1e-4, 1e-2)}}),
    row("ASGD", {"lr": 3e-3}, {"lambd": 0.1}, {"alpha": 0.5, "lambd": 0.1}, {"t0": 100}, {"weight_decay": 0.1},
        {"maximize": True},
        {"lambd": 0.03, "alpha": 0.6, "t0": 10, "weight_decay": 0.02, "maximize": True},
        second={"lr": 5e-4, "t0": 300},
        changes={20: {"lr": 2e-3}, 60: {"t0": 40}, 400: {"weight_decay": 0.02, "lambd": 0.03}}),
    row("Adafactor", {"lr": 3e-3}, {"beta2_decay": -0.5}, {"eps": (0.3, 1e-3)}, {"d": 1.2}, {"weight_decay": 0.1},
        {"maximize": True}, {"eps": (None, 2.5), "weight_decay": 0.01},
        {"lr": 0.05, "weight_decay": 0.4},  # from step 401 on, 1 / sqrt(t) < lr
        {"beta2_decay": -0.7, "eps": (1e-3, 1.0), "d": 1.1, "weight_decay": 0.03, "maximize": True},
        second={"lr": 4e-4, "beta2_decay": -0.9},
        changes={20: {"lr": 2e-3}, 60: {"beta2_decay": -0.6}, 400: {"weight_decay": 0.02, "d": 1.3}}),
    row("Muon", {"lr": 2e-3}, {"weight_decay": 0.3}, {"momentum": 0.8}, {"nesterov": False},
        {"ns_coefficients": (2.0, -1.5, 0.5)}, {"eps": 3.0}, {"ns_steps": 3}, {"adjust_lr_fn": "match_rms_adamw"},
        {"weight_decay": 0, "momentum": 0.9, "nesterov": False, "ns_steps": 4, "adjust_lr_fn": "original"},
        second={"lr": 4e-4, "momentum": 0.85}, shapes=MATRICES,
        changes={20: {"lr": 2e-3}, 60: {"momentum": 0.7, "nesterov": False},
                 400: {"weight_decay": 0.02, "ns_steps": 6}}),
    row("SparseAdam", {"lr": 2e-3}, {"betas": (0.8, 0.95)}, {"eps": 0.03}, {"maximize": True},
        second={"lr": 4e-4}, shapes=TABLES,
        changes={20: {"lr": 2e-3}, 60: {"betas": (0.7, 0.99)}, 400: {"eps": 1e-2}}),
    row("SGD", {"lr": 3e-3}, {"maximize": True},
        second={"lr": 5e-4}, shapes=TABLES, title="SGD-sparse", changes={20: {"lr": 2e-3}}),
    row("Adagrad", {"lr": 3e-2}, {"lr_decay": 0.01}, {"initial_accumulator_value": 0.5}, {"eps": 0.1},
        {"maximize": True},
        second={"lr": 5e-3}, shapes=TABLES, title="Adagrad-sparse",
        changes={20: {"lr": 2e-2}, 60: {"lr_decay": 0.01}, 400: {"eps": 1e-2}}),
]
# fmt: on
CASES = {case.name: case for cases in ROWS for case in cases}
assert len(CASES) == sum(map(len, ROWS)), "two cases have the same name"


class Rows(NamedTuple):
    """A sparse gradient: values of the given rows; those of a repeated row add up."""

    indices: np.ndarray
    values: np.ndarray


def away(shape: tuple[int, ...]) -> np.ndarray:
    """Alternating signs: the direction in which each element drifts on average."""
    return (1.0 - 2.0 * (np.arange(np.prod(shape, dtype=int)) % 2)).reshape(shape)


@cache
def noise(seed: int, *shape: int) -> np.ndarray:
    """Odd multiples of 2**-23 in (-1, 1), from PCG64's raw bits: the same for ever, never zero, exact in float32."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape, dtype=int))) >> np.uint64(41)
    return ((2 * raw.astype(np.int64) + 1 - 2**23) * 2.0**-23).reshape(shape)


def initial(case: Case, dtype: str) -> dict[str, np.ndarray]:
    """Parameters of magnitude 1 to 2: no 0-d tensor shall come near zero, where a relative error means nothing."""
    return {
        str(i): np.asarray(away(shape) * (1 + abs(noise(100 + i, *shape))), dtype)
        for i, shape in enumerate(case.shapes)
    }


@cache
def dense(i: int, shape: tuple[int, ...], dtype: str) -> list[np.ndarray]:
    """All gradients of parameter i: noise around a drift, ever smaller, as in training."""
    around = noise(i, STEPS, *shape) - 0.25 * away(shape)
    return [np.asarray(around[t] * 2.0 ** -(t // 200), dtype) for t in range(STEPS)]


@cache
def sparse(i: int, shape: tuple[int, ...], dtype: str) -> list[Rows]:
    """As `dense`, but each gradient has 0 to 5 rows, the first of them twice if there are more than two."""
    picks = (np.random.PCG64(50 + i).random_raw(5 * STEPS) % np.uint64(shape[0])).astype(np.int64).reshape(STEPS, 5)
    picks[:, 2] = picks[:, 0]
    return [Rows(picks[t, : t % 6], full[: t % 6]) for t, full in enumerate(dense(i, (5, *shape[1:]), dtype))]


def gradients(case: Case, dtype: str, t: int) -> list[np.ndarray | Rows | None]:
    """The gradients of step t, from 1 on.  Now and then a parameter has none; the last one has its first at step 4."""
    stream = sparse if case.shapes is TABLES else dense
    last = len(case.shapes) - 1
    return [
        None if (t + 4 * i) % 11 == 0 or (i == last and t < 4) else stream(i, shape, dtype)[t - 1]
        for i, shape in enumerate(case.shapes)
    ]


class Run:
    """One optimizer on its way along a trajectory.

    A `library` has its classes in `optimizers`, makes a `parameter` and a `gradient` of arrays, and gives the `array`
    of a tensor.  With `at` and `values` the run starts in the middle.
    """

    def __init__(self, case: Case, dtype: str, library: Any, at: int = 0, values: dict[str, np.ndarray] | None = None):
        self.case, self.dtype, self.library, self.at = case, dtype, library, at
        self.params = [library.parameter(a.copy()) for a in (values or initial(case, dtype)).values()]
        groups = [{"params": self.params[:2]}]
        if at >= case.joins:
            groups.append({"params": self.params[2:], **case.second})
        self.optimizer = getattr(library.optimizers, case.optimizer)(groups, **case.options)

    def advance(self, until: int) -> "Run":
        """Take the steps up to and including `until`."""
        for t in range(self.at + 1, until + 1):
            if t == self.case.joins:
                self.optimizer.add_param_group({"params": self.params[2:], **self.case.second})
            self.optimizer.param_groups[0].update(self.case.changes.get(t, {}))
            for param, grad in zip(self.params, gradients(self.case, self.dtype, t), strict=True):
                param.grad = None if grad is None else self.library.gradient(grad, param)
            self.optimizer.step()
        self.at = until
        return self

    def values(self) -> dict[str, np.ndarray]:
        """Copies of the parameters, named by index."""
        return {str(i): self.library.array(p).copy() for i, p in enumerate(self.params)}

    def state(self) -> dict[str, np.ndarray]:
        """Copies of the optimizer's state, named "index.key"."""
        saved = sorted(self.optimizer.state_dict()["state"].items())
        return {f"{i}.{key}": self.library.array(of[key]).copy() for i, of in saved for key in sorted(of)}


def optimlite() -> SimpleNamespace:
    """optimlite as a library for `Run`; imported here, because the golden files are made without it."""
    ol: Any = import_module("optimlite")
    return SimpleNamespace(
        optimizers=ol,
        parameter=ol.Parameter,
        gradient=lambda grad, param: ol.SparseGrad(*grad) if isinstance(grad, Rows) else grad,
        array=np.asarray,
    )


def error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, relative to the largest element of `theirs`."""
    assert ours.shape == theirs.shape, f"shape {ours.shape} instead of {theirs.shape}"
    difference = abs(np.float64(ours) - np.float64(theirs)).max(initial=0)
    # NAdam's `mu_product` in torch ends among float32's subnormal numbers, where no relative error is small.
    return float(difference / max(abs(np.float64(theirs)).max(initial=0), 1e-25))


def assert_agree(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], dtype: str, when: str) -> None:
    """The same tensors, within the bound."""
    assert list(ours) == list(theirs), when
    errors = {name: error(ours[name], theirs[name]) for name in theirs}
    bad = {name: f"{e:.1e}" for name, e in errors.items() if not e <= BOUNDS[dtype]}
    assert not bad, f"{when}: relative errors {bad} exceed {BOUNDS[dtype]}"


def golden_file(row: str) -> Path:
    """The file of torch's trajectories for one row of the table."""
    return Path(__file__).parent / "golden" / f"optimizers_{row}.npz"


def pack(tensors: dict[str, np.ndarray]) -> np.ndarray:
    """One record with a field per tensor, so that a file needs one entry for all of them."""
    record = np.zeros((), [(name, a.dtype, a.shape) for name, a in tensors.items()])
    for name, a in tensors.items():
        record[name] = a
    return record


def unpack(record: np.ndarray) -> dict[str, np.ndarray]:
    """The tensors of a record."""
    return {name: record[name] for name in record.dtype.names or ()}
