"""Every optimizer with every option set, a row each: tests are products of this table."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import pytest

import optimlite as ol
from optimlite.engine.whole_matrix import MatrixOptimizer


class Case(NamedTuple):
    optimizer: type[ol.Optimizer]
    options: dict[str, Any]
    elementwise: bool = True             # else an element's update depends on its whole tensor,
    alone: bool = True                   # or on the other tensors as well
    axes: int = 0                        # that a parameter has at least
    longest: int = 1 << 60               # axis that tests give it: decompositions take the cube of it

    @property
    def whole(self) -> bool:
        """Whether it steps by whole matrices, whose bits are those of a BLAS."""
        return issubclass(self.optimizer, MatrixOptimizer)

    @property
    def id(self) -> str:
        options = ",".join(f"{key}={value}".replace(" ", "") for key, value in self.options.items())
        return f"{self.optimizer.__name__}({options})"

    def fit(self, shape: int | tuple[int, ...]) -> tuple[int, ...]:
        """A shape that the optimizer takes: with axes of one element behind it, if it has too few; cut if it's long."""
        given = (shape,) if isinstance(shape, int) else shape
        return tuple(min(n, self.longest) for n in given) + (1,) * (self.axes - len(given))


# Whose decay is decoupled, beside Adam; every modifier is theirs.
DECAYING: dict[type[ol.Optimizer], dict[str, Any]] = {
    **{kind: {"lr": 0.01, "decoupled_weight_decay": True} for kind in (ol.NAdam, ol.RAdam, ol.ADOPT)},
    **{kind: {"lr": 0.01} for kind in (
        ol.AdaBelief, ol.Lion, ol.LaProp, ol.Adan, ol.AdEMAMix, ol.MARS, ol.StableAdamW)},
}

CASES = [
    Case(ol.SGD, {"lr": 0.1}),
    Case(ol.SGD, {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    Case(ol.SGD, {"lr": 0.1, "momentum": 0.9}),
    Case(ol.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    Case(ol.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True}),
    Case(ol.Adam, {"lr": 0.01}),
    Case(ol.Adam, {"lr": 0.01, "weight_decay": 0.1, "maximize": True}),
    Case(ol.Adam, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "amsgrad": True, "weight_decay": 0.1}),
    Case(ol.Adam, {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case(ol.Adam, {"lr": 0.01, "weight_decay": 0.1, "cautious": True, "maximize": True}, elementwise=False),
    Case(ol.Adam, {"lr": 0.01, "amsgrad": True, "cautious": True, "decoupled_weight_decay": True}, elementwise=False),
    Case(ol.Adam, {"lr": 0.01, "eps_root": 0.03, "uncorrected_eps": True}),
    Case(ol.Adam, {"lr": 0.01, "amsgrad": True, "eps_root": 0.03}),
    Case(ol.AdamW, {"lr": 0.01}),
    Case(ol.AdamW, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True,
                    "maximize": True}),
    Case(ol.AdamW, {"lr": 0.01, "eps": 1e-3, "eps_root": 0.03, "uncorrected_eps": True}),
    Case(ol.AdamW, {"lr": 0.01, "cautious": True}, elementwise=False),
    Case(ol.AdamW, {"lr": 0.01, "weight_decay": 0.3, "cautious_weight_decay": True, "corrected_weight_decay": 0.03}),
    Case(ol.AdamW, {"lr": 0.01, "weight_decay": 0.3, "corrected_weight_decay": 0.02, "max_update_rms": 0.5},
         elementwise=False),
    Case(ol.Adam, {"lr": 0.01, "cautious": True, "max_update_rms": 0.5, "amsgrad": True}, elementwise=False),
    Case(ol.Adagrad, {"lr": 0.1}),
    Case(ol.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-3,
                      "maximize": True}),
    Case(ol.Adadelta, {}),
    Case(ol.Adadelta, {"lr": 0.5, "rho": 0.7, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    Case(ol.Adamax, {"lr": 0.01}),
    Case(ol.Adamax, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    Case(ol.NAdam, {"lr": 0.01}),
    Case(ol.NAdam, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "momentum_decay": 0.1,
                    "maximize": True}),
    Case(ol.NAdam, {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case(ol.RAdam, {"lr": 0.01}),
    Case(ol.RAdam, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    Case(ol.RAdam, {"lr": 0.01, "betas": (0.9, 0.8), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case(ol.RMSprop, {"lr": 0.01}),
    Case(ol.RMSprop, {"lr": 0.01, "alpha": 0.7, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    Case(ol.RMSprop, {"lr": 0.01, "centered": True}),
    Case(ol.RMSprop, {"lr": 0.01, "momentum": 0.9}),
    Case(ol.RMSprop, {"lr": 0.01, "alpha": 0.7, "momentum": 0.5, "centered": True, "weight_decay": 0.1}),
    Case(ol.Rprop, {}),
    Case(ol.Rprop, {"lr": 0.1, "etas": (0.7, 1.4), "step_sizes": (0.08, 0.15), "maximize": True}),
    Case(ol.ASGD, {}),
    Case(ol.ASGD, {"lr": 0.1, "lambd": 0.1, "alpha": 0.6, "t0": 1, "weight_decay": 0.1, "maximize": True}),
    Case(ol.LAMB, {}, elementwise=False),
    Case(ol.LAMB, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "max_trust_ratio": 0.5,
                   "grad_averaging": False, "bias_correction": False, "maximize": True}, elementwise=False),
    Case(ol.LAMB, {"weight_decay": 0, "always_adapt": False}, elementwise=False),
    Case(ol.LARS, {}, elementwise=False),
    Case(ol.LARS, {"lr": 0.3, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1, "trust_coefficient": 0.1,
                   "eps": 1e-3, "trust_clip": True, "maximize": True}, elementwise=False),
    Case(ol.LARS, {"lr": 0.3, "nesterov": True, "weight_decay": 0.1, "lr_in_momentum": True}, elementwise=False),
    Case(ol.LARS, {"lr": 0.15, "momentum": 0, "always_adapt": False}, elementwise=False),
    Case(ol.StableAdamW, {}, elementwise=False),
    Case(ol.StableAdamW, {"lr": 0.01, "betas": (0.8, 0.7), "eps": 0.3, "weight_decay": 0.1, "maximize": True},
         elementwise=False),
    Case(ol.AdaBelief, {"lr": 0.01}),
    Case(ol.AdaBelief, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    Case(ol.NovoGrad, {}, elementwise=False),
    Case(ol.NovoGrad, {"lr": 0.1, "betas": (0.8, 0.7), "eps": 0.3, "weight_decay": 0.1, "grad_averaging": True,
                       "maximize": True}, elementwise=False),
    Case(ol.ScheduleFreeSGD, {"lr": 0.1}),
    Case(ol.ScheduleFreeSGD, {"lr": 0.1, "momentum": 0.6, "weight_decay": 0.1, "warmup_steps": 2, "r": 1.5,
                              "weight_lr_power": 1.0, "maximize": True}),
    Case(ol.ScheduleFreeAdamW, {"lr": 0.01}),
    Case(ol.ScheduleFreeAdamW, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "warmup_steps": 2,
                                "r": 1.5, "weight_lr_power": 1.0, "maximize": True}),
    Case(ol.ScheduleFreeRAdam, {"lr": 0.01, "betas": (0.9, 0.9)}),
    Case(ol.ScheduleFreeRAdam, {"lr": 0.01, "betas": (0.8, 0.7), "eps": 1e-3, "weight_decay": 0.1, "r": 1.5,
                                "weight_lr_power": 1.0, "silent_sgd_phase": False, "maximize": True}),
    Case(ol.Prodigy, {}, elementwise=False, alone=False),
    Case(ol.Prodigy, {"lr": 2.0, "betas": (0.5, 0.9), "beta3": 0.7, "eps": 0.3, "weight_decay": 0.1,
                      "use_bias_correction": True, "safeguard_warmup": True, "d0": 1e-3, "d_coef": 300.0,
                      "growth_rate": 1.2, "maximize": True}, elementwise=False, alone=False),
    Case(ol.Prodigy, {"weight_decay": 0.1, "decouple": False, "d0": 1e-2}, elementwise=False, alone=False),
    Case(ol.DAdaptAdam, {}, elementwise=False, alone=False),
    Case(ol.DAdaptAdam, {"lr": 4.0, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "use_bias_correction": True,
                         "d0": 1e-3, "growth_rate": 1.2, "layer_scale": 2.0, "maximize": True},
         elementwise=False, alone=False),
    Case(ol.DAdaptAdam, {"weight_decay": 0.1, "decouple": True, "growth_rate": 1.02}, elementwise=False, alone=False),
    Case(ol.DoG, {}, elementwise=False, alone=False),
    Case(ol.DoG, {"lr": 0.5, "reps_rel": 1e-2, "weight_decay": 0.1, "eps": 0.3, "maximize": True}, elementwise=False,
         alone=False),
    Case(ol.DoG, {"init_eta": 1e-2}, elementwise=False, alone=False),
    Case(ol.LDoG, {}, elementwise=False),
    Case(ol.LDoG, {"lr": 0.5, "reps_rel": 1e-2, "weight_decay": 0.1, "eps": 0.3, "maximize": True}, elementwise=False),
    Case(ol.LDoG, {"init_eta": 1e-2}, elementwise=False),
    *[Case(kind, {**options, "weight_decay": 0.3, "cautious_weight_decay": True, "corrected_weight_decay": 0.03},
           elementwise=kind not in (ol.MARS, ol.StableAdamW)) for kind, options in DECAYING.items()],
    *[Case(kind, {**options, "weight_decay": 0.3, "cautious": True, "max_update_rms": 0.5,
                  "cautious_weight_decay": True}, elementwise=False)
      for kind, options in DECAYING.items() if kind is not ol.StableAdamW],
    *[Case(kind, {**options, "cautious": True, "max_update_rms": 0.5}, elementwise=False) for kind, options in {
        ol.SGD: {"lr": 0.1, "momentum": 0.9}, ol.RMSprop: {"lr": 0.01, "momentum": 0.9}, ol.Adamax: {"lr": 0.01},
        ol.NovoGrad: {}}.items()],
    Case(ol.Adafactor, {}, elementwise=False),
    Case(ol.Adafactor, {"lr": 0.5, "beta2_decay": -0.5, "eps": (1e-2, 2.0), "d": 1.3, "weight_decay": 0.1,
                        "maximize": True}, elementwise=False),
    Case(ol.Muon, {}, elementwise=False, axes=2),
    Case(ol.Muon, {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.8, "nesterov": False, "ns_steps": 3, "eps": 3.0,
                   "ns_coefficients": (2.0, -1.5, 0.5), "adjust_lr_fn": "match_rms_adamw"}, elementwise=False, axes=2),
    Case(ol.Muon, {"ns_coefficients": "polar_express", "adjust_lr_fn": "spectral_norm", "maximize": True},
         elementwise=False, axes=2, longest=100),
    Case(ol.Muon, {"lr": 0.1, "weight_decay": 0.3, "cautious_weight_decay": True, "corrected_weight_decay": 0.3},
         elementwise=False, axes=2),
    Case(ol.Muon, {"use_muon": False, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.3}, axes=2),
    Case(ol.NorMuon, {}, elementwise=False, axes=2, longest=100),
    Case(ol.NorMuon, {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.8, "beta2": 0.6, "nesterov": False, "ns_steps": 2,
                      "eps": 3.0, "ns_coefficients": ((2.0, -1.5, 0.5), (1.9, -1.4, 0.5), (1.8, -1.3, 0.4)),
                      "adjust_lr_fn": "match_rms_adamw", "maximize": True}, elementwise=False, axes=2, longest=100),
    Case(ol.NorMuon, {"use_muon": False}, axes=2),
    Case(ol.SOAP, {"precondition_frequency": 2, "max_precond_dim": 60}, elementwise=False, longest=100),
    Case(ol.SOAP, {"lr": 0.1, "betas": (0.8, 0.9), "shampoo_beta": 0.7, "eps": 1e-3, "weight_decay": 0.3,
                   "precondition_frequency": 1, "max_precond_dim": 4, "merge_dims": True, "precondition_1d": True,
                   "normalize_grads": True, "correct_bias": False, "maximize": True}, elementwise=False, longest=100),
    Case(ol.Shampoo, {"max_preconditioner_dim": 40}, elementwise=False, longest=100),
    Case(ol.Shampoo, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.3, "max_preconditioner_dim": 60,
                      "merge_dims": False, "precondition_frequency": 2, "start_preconditioning_step": 3,
                      "use_bias_correction": False, "grafting": "adam", "grafting_beta2": 0.7, "grafting_eps": 0.1,
                      "momentum": 0.8, "nesterov": True, "maximize": True}, elementwise=False, longest=100),
    Case(ol.Lion, {"lr": 0.01}),
    Case(ol.Lion, {"lr": 0.01, "betas": (0.8, 0.6), "weight_decay": 0.1, "maximize": True}),
    Case(ol.Lion, {"lr": 0.01, "cautious": True}, elementwise=False),
    Case(ol.ADOPT, {"lr": 0.01}),
    Case(ol.ADOPT, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 0.3, "clip_exp": 0.1, "weight_decay": 0.1,
                    "maximize": True}),
    Case(ol.ADOPT, {"lr": 0.01, "clip_exp": None, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case(ol.ADOPT, {"lr": 0.01, "cautious": True}, elementwise=False),
    Case(ol.LaProp, {"lr": 0.01}),
    Case(ol.LaProp, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    Case(ol.LaProp, {"lr": 0.01, "cautious": True}, elementwise=False),
    Case(ol.Adan, {"lr": 0.01}),
    Case(ol.Adan, {"lr": 0.01, "betas": (0.8, 0.7, 0.9), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    Case(ol.Adan, {"lr": 0.01, "weight_decay": 0.1, "no_prox": True}),
    Case(ol.AdEMAMix, {"lr": 0.01}),
    Case(ol.AdEMAMix, {"lr": 0.01, "betas": (0.8, 0.9, 0.95), "alpha": 3.0, "beta3_warmup": 5, "alpha_warmup": 7,
                       "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    Case(ol.AdamP, {}, elementwise=False),
    Case(ol.AdamP, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "delta": 3.0, "wd_ratio": 0.3,
                    "maximize": True}, elementwise=False),
    Case(ol.AdamP, {"lr": 0.01, "weight_decay": 0.3, "delta": 30.0, "nesterov": True, "cautious_weight_decay": True,
                    "corrected_weight_decay": 0.03}, elementwise=False),
    Case(ol.AdamMini, {}, elementwise=False),
    Case(ol.AdamMini, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "block": "tensor",
                       "maximize": True}, elementwise=False),
    Case(ol.AdamMini, {"lr": 0.01, "block": "none", "eps": 1e-3, "weight_decay": 0.1}),
    Case(ol.AdamMini, {"lr": 0.01, "block": "head", "heads": 1, "weight_decay": 0.3, "cautious_weight_decay": True,
                       "corrected_weight_decay": 0.03, "cautious": True, "max_update_rms": 0.5}, elementwise=False),
    Case(ol.MARS, {}, elementwise=False),
    Case(ol.MARS, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "gamma": 0.3,
                   "optimize_1d": True, "maximize": True}, elementwise=False),
    Case(ol.MARS, {"lr": 0.01, "gamma": 0.3, "betas_1d": (0.8, 0.7), "cautious": True}, elementwise=False),
]

# By rows that a sparse gradient touches.
ROWS = [
    Case(ol.SparseAdam, {"lr": 0.1}),
    Case(ol.SparseAdam, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "maximize": True}),
    Case(ol.SGD, {"lr": 0.1}),
    Case(ol.SGD, {"lr": 0.1, "maximize": True}),
    Case(ol.Adagrad, {"lr": 0.1}),
    Case(ol.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-3, "maximize": True}),
]
# What a sparse gradient does to all rows.
DENSIFIED = [
    Case(ol.SGD, {"lr": 0.1, "momentum": 0.9}),
    Case(ol.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    Case(ol.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
]

ONE_RATE = (ol.Prodigy, ol.DAdaptAdam)           # which groups can't have rates of their own
OPTIMIZERS = list(dict.fromkeys(case.optimizer for case in CASES))
AXES = {case.optimizer: case.axes for case in CASES}
per_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)

# Around every boundary: of vectors (4 to 16 elements), cache lines, unrolled loops, spans and parts.
SIZES = [0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 255, 256, 257, 1023, 1025, 5_000, 16_384, 16_385, 100_003]


# For methods that know of a tensor's axes: at the edges of tiles of 64 x 1024, and of matrices that count as small.
SHAPES = [(1, 1), (7, 3), (3, 7), (33, 33), (40, 1), (1, 300), (0, 4), (4, 0), (3, 2, 5), (2, 3, 4, 5), (64, 1024),
          (65, 1025), (63, 1023), (129, 17), (2, 70, 1030), (130, 1100), (500, 3, 3), (40, 60, 1, 1), (30, 20, 5, 2)]


def hyper_parameters() -> list[tuple[type[ol.Optimizer], str, int | None]]:
    """(optimizer, name of a hyper-parameter, which part of it if it is a pair), from the constructors."""
    rows: list[tuple[type[ol.Optimizer], str, int | None]] = []
    for optimizer in OPTIMIZERS:
        for name, parameter in inspect.signature(optimizer).parameters.items():
            parts = range(len(parameter.default)) if isinstance(parameter.default, tuple) else [None]
            rows += [(optimizer, name, part) for part in parts if name not in ("params", "storage")]
    return rows


def altered(case: Case, name: str, part: int | None) -> Any:
    """Another value of the same kind for a hyper-parameter, or for a part of it."""
    setting = case.options.get(name, inspect.signature(case.optimizer).parameters[name].default)
    if name == "corrected_weight_decay" and setting is False:
        return 0.003
    if name == "block":
        return "row" if setting == "none" else "none"
    if name == "heads":
        return 2 if setting == 1 else setting
    if name == "delta":
        return 0.0
    if name in OTHER_WORDS:
        return None if setting else OTHER_WORDS[name]
    if part is not None and not isinstance(setting[part], (str, tuple)):
        return tuple(another(item) if index == part else item for index, item in enumerate(setting))
    return another(setting)


OTHER_WORDS = {"adjust_lr_fn": "match_rms_adamw", "grafting": "rmsprop"}
# What chooses the shapes of state, or what state there is of a group, and stays as it is while there is some.
SHAPING = {"max_precond_dim", "merge_dims", "precondition_1d", "max_preconditioner_dim"}


def another(value: Any) -> Any:
    if isinstance(value, str):
        return (2.0, -1.5, 0.5)                  # coefficients that had a name
    if isinstance(value, tuple):
        return tuple(map(another, value))
    if isinstance(value, bool):
        return not value
    return 0.1 if not value else value + 1 if isinstance(value, int) else 0.9 * value
