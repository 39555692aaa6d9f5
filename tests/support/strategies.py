"""What property tests draw: hyper-parameters that an optimizer accepts, shapes, values, and arrays in any memory."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

import optimlite as ol

seeds = st.integers(0, 2**32 - 1)
floats = st.sampled_from([np.float32, np.float64])
dtypes = st.sampled_from([np.float32, np.float64, np.float32, np.float64, np.complex64, np.float16])
orders = st.sampled_from("CF")

# Mostly small; a few beyond a vector, a span of 16,384 elements, and what a single thread does alone.
shapes = st.one_of(st.lists(st.integers(0, 6), max_size=4).map(tuple),
                   st.sampled_from([(1,), (17,), (257,), (33, 17), (16_385,), (130, 127)]))
LARGE = [(100_003,), (3, 41_111), (20_000, 5)]


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    """From `low` to `high` in double, its ends and 0 more often than chance would have them."""
    return st.floats(low, high, allow_subnormal=False) | st.sampled_from([low, high])


def between(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, exclude_min=True, exclude_max=True, allow_subnormal=False)


betas = st.tuples(numbers(0, 0.9999), numbers(0, 0.99999))
open_betas = st.tuples(numbers(1e-3, 0.9999), numbers(0, 0.99999))
flags = st.booleans()

# Ranges in which every coefficient fits float32; what is refused is tested elsewhere.
HYPER: Mapping[str, st.SearchStrategy[Any]] = {
    "lr": numbers(0, 10), "momentum": numbers(0, 1.2), "dampening": st.just(0) | numbers(-1, 1),
    "weight_decay": numbers(0, 1), "betas": betas, "eps": numbers(0, 0.1), "lr_decay": numbers(0, 1),
    "initial_accumulator_value": numbers(0, 10), "rho": numbers(0, 1), "momentum_decay": numbers(0, 1),
    "etas": st.tuples(between(0, 1), between(1, 4)),
    "step_sizes": st.tuples(numbers(0, 50), numbers(0, 50)).map(sorted).map(tuple),
    "lambd": numbers(0, 1), "t0": st.integers(0, 8), "alpha": numbers(0, 1),
    "max_trust_ratio": st.none() | between(0, 10), "trust_coefficient": numbers(0, 10),
    "beta2_decay": numbers(-1, 0), "d": numbers(1, 10),
    "clip_exp": st.none() | numbers(0, 1),
    "no_prox": flags,
    "beta3_warmup": st.none() | st.integers(1, 20), "alpha_warmup": st.none() | st.integers(1, 20),
    "gamma": numbers(0, 1), "betas_1d": betas, "optimize_1d": flags,
    "eps_root": st.none() | numbers(0, 0.1), "uncorrected_eps": flags,
    "always_adapt": flags, "grad_averaging": flags, "bias_correction": flags, "trust_clip": flags, "cautious": flags,
    "lr_in_momentum": st.just(False), "amsgrad": flags, "centered": flags, "nesterov": flags,
    "maximize": flags, "decoupled_weight_decay": flags, "cautious_weight_decay": flags,
    "corrected_weight_decay": st.just(False) | numbers(1e-3, 10), "max_update_rms": st.none() | numbers(1e-3, 10),
    "warmup_steps": st.integers(0, 4), "r": numbers(0, 3), "weight_lr_power": numbers(0, 3), "silent_sgd_phase": flags,
    "beta3": st.none() | numbers(0, 0.99999), "decouple": flags, "use_bias_correction": flags,
    "safeguard_warmup": flags,
    "d0": numbers(1e-6, 1), "d_coef": numbers(0.1, 10), "growth_rate": st.just(np.inf) | numbers(1, 10),
    "shampoo_beta": st.none() | numbers(0, 0.9999), "precondition_frequency": st.integers(1, 4),
    "max_precond_dim": st.integers(1, 40), "merge_dims": flags, "precondition_1d": flags, "normalize_grads": flags,
    "correct_bias": flags, "max_preconditioner_dim": st.integers(1, 40),
    "start_preconditioning_step": st.none() | st.integers(1, 5),
    "grafting": st.sampled_from([None, "sgd", "adagrad", "rmsprop", "adam"]), "grafting_beta2": numbers(0, 0.9999),
    "grafting_eps": numbers(0, 0.1),
    "delta": numbers(0, 10), "wd_ratio": numbers(0, 1), "heads": st.none() | st.just(1),
    "block": st.sampled_from(["row", "tensor", "none"]),
    "layer_scale": numbers(0.1, 10), "reps_rel": numbers(1e-6, 1), "init_eta": st.none() | numbers(1e-6, 1),
}


OF_ONE: Mapping[tuple[str, str], st.SearchStrategy[Any]] = {      # where a name means something else
    ("Adan", "betas"): st.tuples(numbers(0, 0.9999), numbers(0, 0.9999), numbers(0, 0.99999)),
    ("AdEMAMix", "betas"): st.tuples(numbers(0, 0.9999), numbers(0, 0.9999), numbers(0, 0.99999)),
    ("Adafactor", "eps"): st.tuples(st.none() | numbers(0, 0.1), numbers(0, 0.1)),
    ("ScheduleFreeSGD", "momentum"): numbers(1e-3, 0.9999),
    ("ScheduleFreeAdamW", "betas"): open_betas, ("ScheduleFreeRAdam", "betas"): open_betas,
}


def hyper(optimizer: type[ol.Optimizer], name: str) -> st.SearchStrategy[Any]:
    own = optimizer.__name__, name
    return OF_ONE[own] if own in OF_ONE else HYPER[name]


def hyper_names(optimizer: type[ol.Optimizer]) -> list[str]:
    return [name for name in inspect.signature(optimizer).parameters if name not in ("params", "storage")]


@st.composite
def options(draw: st.DrawFn, optimizer: type[ol.Optimizer], beside: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Some hyper-parameters that go with those `beside` them; the others are left to their defaults."""
    names = hyper_names(optimizer)
    chosen = {name: draw(hyper(optimizer, name)) for name in draw(st.lists(st.sampled_from(names), unique=True))}
    together = {**(beside or {}), **chosen}
    if together.get("nesterov") and "dampening" in hyper_names(optimizer):
        chosen |= {"momentum": draw(between(0, 1)), "dampening": 0}
    if "decoupled_weight_decay" in names and any(together.get(f"{kind}_weight_decay")
                                                 for kind in ("cautious", "corrected")):
        chosen |= {"decoupled_weight_decay": True}
    return chosen


SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 1e-39, 3e38]      # subnormal and huge in float32


def values(seed: int, shape: tuple[int, ...], dtype: Any, scale: float = 1.0, special: bool = False) -> np.ndarray:
    """Random numbers of a magnitude, some of them special if wanted."""
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore"):             # of float16
        result = np.asarray(scale * rng.standard_normal(shape), dtype)
        if result.dtype.kind == "c":
            result.imag = values(seed + 1, shape, result.real.dtype, scale, special)
        if special and result.size:
            where = rng.random(shape) < 0.2
            result[where] = rng.choice(np.array(SPECIAL).astype(dtype), int(where.sum()))
    return result


def placed(source: np.ndarray, form: str) -> np.ndarray:
    """The same values in another memory: by `form` of strides, order, offset and flags."""
    match form:
        case "C" | "F":
            return source.copy(order=form)       # type: ignore[arg-type]
        case "strided":
            return np.repeat(source, 2, axis=-1)[..., ::2] if source.ndim else source.copy()
        case "reversed":
            back = (..., *[slice(None, None, -1)] * source.ndim)      # with ... an array of no axes stays one
            return source[back].copy()[back]
        case "transposed":
            return source.T.copy().T
        case "offset" | "misaligned":
            skip = source.itemsize if form == "offset" else 1
            memory = np.zeros(source.nbytes + 64, np.uint8)
            result = memory[skip:skip + source.nbytes].view(source.dtype).reshape(source.shape)
            result[...] = source
            return result
        case "read-only":
            result = source.copy()
            result.flags.writeable = False
            return result
        case "broadcast":
            if source.size < 2:                      # nothing to repeat
                return placed(source, "read-only")
            return np.lib.stride_tricks.as_strided(source.ravel()[:1].copy(), source.shape, (0,) * source.ndim)
    raise AssertionError(form)


WRITABLE = ["C", "F", "strided", "reversed", "transposed", "offset", "misaligned"]
UNWRITABLE = ["read-only", "broadcast"]
