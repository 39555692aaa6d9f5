# The trajectories on which optimizers that torch lacks must agree with other libraries: optimizers x options x oracles.
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from support.trajectories import away, error, noise, unpack

Trajectory = dict[int, dict[str, np.ndarray]]           # by step and name

STEPS = 30
SNAPSHOTS = (1, 2, 3, 4, 8, 9, 12, 20, STEPS)
LR_CHANGES = 3                  # before this step: it tells a learning rate within a momentum from one outside
STANDSTILL = 8                  # the step in which every gradient is zero
BURST = range(12, 15)           # steps with gradients eight times as large, which clip and adapt

# The first two tensors belong to the first group.  The last starts at zero, and one in each group has a first gradient
# of zeros: what a ratio of norms is then is part of the rule.
SHAPES = ((3, 4), (5,), (), (2, 3, 4), (4,))
# Of whole matrices, where the first gradients must leave no more than one eigenvector free; the second group of NorMuon
# is AdamW's.
SHAPES_OF = {"NorMuon": ((3, 4), (5, 2), (), (2, 3, 4), (4,)), "SOAP": ((3, 4), (2,), (), (2, 2, 5), (4,))}

# Relative to the largest element of the tensor.  In float32: four times what the oracles' own float32 rounds by, which
# is up to 1e-6 (golden/make_oracles.py prints it); another order of operations may round as much again.
BOUNDS = {"float32": 4e-6, "float64": 1e-12}
# A sum over all tensors rounds as its order does, and the next step is as large as it says: Prodigy's own float32
# rounds by 3e-5.
# Another BLAS rounds in another way, which matrices of few gradients, ill-conditioned at first, make more of.
OF_MATRICES = {"float32": 1e-3, "float64": 1e-9}
BOUNDS_OF = {"Prodigy": {"float32": 1e-4, "float64": 1e-9}, "DAdaptAdam": {"float32": 4e-6, "float64": 1e-9},
             "NorMuon": OF_MATRICES, "SOAP": OF_MATRICES, "Shampoo": OF_MATRICES}


def bound(optimizer: str, dtype: str) -> float:
    return BOUNDS_OF.get(optimizer, BOUNDS)[dtype]


@dataclass(frozen=True)
class Case:
    """One trajectory: an optimizer's options, under our names and complete, and who else has the rule."""

    optimizer: str
    oracle: str
    options: dict[str, Any]
    second: dict[str, Any] = field(default_factory=dict)    # overrides of the second group

    @property
    def name(self) -> str:
        return f"{self.oracle}-{self.label}"

    @property
    def label(self) -> str:
        shown = (f"{key}={value}" for key, value in self.options.items() if value != BASE[self.optimizer].get(key))
        return ",".join([*shown, *(f"second_{key}={value}" for key, value in self.second.items())]).replace(" ", "")


# The options that a row doesn't name.  They aren't the defaults, on which libraries differ.
BASE: dict[str, dict[str, Any]] = {
    "Adam": {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.0, "eps_root": None,
             "uncorrected_eps": False},
    "AdamW": {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.1, "amsgrad": False, "cautious": False,
              "corrected_weight_decay": False},
    "LAMB": {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.1, "always_adapt": True,
             "max_trust_ratio": None, "grad_averaging": True, "bias_correction": True},
    "LARS": {"lr": 0.5, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.1, "nesterov": False,
             "trust_coefficient": 0.02, "eps": 1e-8, "trust_clip": False, "always_adapt": True,
             "lr_in_momentum": False},
    "AdaBelief": {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-16, "weight_decay": 0.1},
    "NovoGrad": {"lr": 0.02, "betas": (0.95, 0.98), "eps": 1e-8, "weight_decay": 0.1, "grad_averaging": False},
    "StableAdamW": {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.1},
    "Lion": {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1, "cautious": False},
    "ADOPT": {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-6, "clip_exp": 0.25, "weight_decay": 0.1,
              "decoupled_weight_decay": False, "cautious": False},
    "LaProp": {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-15, "weight_decay": 0.1, "cautious": False,
               "corrected_weight_decay": False},
    "Adan": {"lr": 0.02, "betas": (0.98, 0.92, 0.99), "eps": 1e-8, "weight_decay": 0.1, "no_prox": False},
    "AdEMAMix": {"lr": 0.02, "betas": (0.9, 0.99, 0.999), "alpha": 2.0, "beta3_warmup": None, "alpha_warmup": None,
                 "eps": 1e-8, "weight_decay": 0.1},
    "AdamP": {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "delta": 0.1, "wd_ratio": 0.1,
              "nesterov": False},
    "AdamMini": {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "block": "row", "heads": None},
    "Lookahead": {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "k": 5, "alpha": 0.5},
    "SAM": {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "rho": 0.3, "adaptive": False},
    "MARS": {"lr": 0.02, "betas": (0.95, 0.99), "eps": 1e-8, "weight_decay": 0.1, "gamma": 0.025,
             "optimize_1d": False, "betas_1d": (0.9, 0.95), "cautious": False},
    "ScheduleFreeSGD": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "warmup_steps": 0, "r": 0.0,
                        "weight_lr_power": 2.0},
    "ScheduleFreeAdamW": {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "warmup_steps": 0,
                          "r": 0.0, "weight_lr_power": 2.0},
    "ScheduleFreeRAdam": {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "r": 0.0,
                          "weight_lr_power": 2.0, "silent_sgd_phase": True},
    "Prodigy": {"lr": 1.0, "betas": (0.9, 0.99), "beta3": None, "eps": 1e-8, "weight_decay": 0.1, "decouple": True,
                "use_bias_correction": False, "safeguard_warmup": False, "d0": 1e-3, "d_coef": 1.0,
                "growth_rate": float("inf")},
    "DAdaptAdam": {"lr": 1.0, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "decouple": True,
                   "use_bias_correction": False, "d0": 1e-3, "growth_rate": float("inf")},
    "DoG": {"lr": 1.0, "reps_rel": 1e-2, "weight_decay": 0.1, "eps": 1e-8, "init_eta": None},
    "LDoG": {"lr": 1.0, "reps_rel": 1e-2, "weight_decay": 0.1, "eps": 1e-8, "init_eta": None},
    "NorMuon": {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "beta2": 0.9, "nesterov": True,
                "ns_coefficients": (3.4445, -4.775, 2.0315), "eps": 1e-7, "ns_steps": 5, "adjust_lr_fn": None,
                "betas": (0.9, 0.95)},
    "SOAP": {"lr": 0.02, "betas": (0.9, 0.95), "shampoo_beta": None, "eps": 1e-8, "weight_decay": 0.1,
             "precondition_frequency": 4, "max_precond_dim": 100, "merge_dims": False, "precondition_1d": False,
             "normalize_grads": False, "correct_bias": True},
    # The oracle keeps rates in float32, which has this one, and 3/8 of it.
    "Shampoo": {"lr": 0.03125, "betas": (0.9, 0.95), "eps": 1e-4, "weight_decay": 0.1, "max_preconditioner_dim": 100,
                "merge_dims": False, "precondition_frequency": 1, "start_preconditioning_step": None,
                "use_bias_correction": True, "grafting": None, "grafting_beta2": 0.9, "grafting_eps": 1e-6,
                "momentum": 0.0, "nesterov": False},
}


def case(optimizer: str, oracle: str, second: float = 0.02, scaled: float | None = None,
         use_muon: bool | None = None, **options: Any) -> Case:
    """A row; the second group has another decay, `second`, and of its own layer scale, `scaled`, and `use_muon`."""
    own = {"layer_scale": scaled, "use_muon": use_muon}
    return Case(optimizer, oracle, BASE[optimizer] | options,
                {"weight_decay": second, **{key: value for key, value in own.items() if value is not None}})


CASES = {f"{each.optimizer}-{each.name}": each for each in [
    case("Adam", "optax", second=0.0, eps_root=0.1),
    case("Adam", "optax", second=0.0, eps_root=1e-3, eps=0.03),
    case("Adam", "scikit-learn", second=0.0, uncorrected_eps=True, eps=0.03),
    case("Adam", "scikit-learn", second=0.0, uncorrected_eps=True, betas=(0.8, 0.9)),
    case("AdamW", "timm", cautious=True),
    case("AdamW", "timm", cautious=True, betas=(0.8, 0.9), amsgrad=True),
    case("AdamW", "timm", corrected_weight_decay=True),
    case("AdamW", "timm", corrected_weight_decay=True, cautious=True, second=0.0),
    case("LAMB", "timm"),
    case("LAMB", "timm", second=0.0),
    case("LAMB", "timm", second=0.0, always_adapt=False),
    case("LAMB", "timm", max_trust_ratio=1.0),
    case("LAMB", "timm", grad_averaging=False),
    case("LAMB", "timm", bias_correction=False),
    case("LAMB", "timm", betas=(0.8, 0.95), eps=0.03, lr=0.005),
    case("LAMB", "optax"),
    case("LAMB", "optax", second=0.0),
    case("LAMB", "optax", betas=(0.8, 0.95), eps=0.03, lr=0.005),
    case("LARS", "timm"),
    case("LARS", "timm", second=0.0),
    case("LARS", "timm", second=0.0, always_adapt=False),
    case("LARS", "timm", momentum=0.0),
    case("LARS", "timm", dampening=0.3),
    case("LARS", "timm", nesterov=True),
    case("LARS", "timm", trust_clip=True, lr=2.0),           # where a norm is zero: 1 / lr
    case("LARS", "timm", trust_clip=True, lr=0.01, trust_coefficient=0.03),
    case("LARS", "timm", eps=0.3),
    case("LARS", "optax", lr_in_momentum=True),
    case("LARS", "optax", second=0.0, lr_in_momentum=True),
    case("LARS", "optax", lr_in_momentum=True, momentum=0.0),
    case("LARS", "optax", lr_in_momentum=True, nesterov=True),
    case("LARS", "optax", lr_in_momentum=True, eps=0.3, trust_coefficient=0.01),
    case("AdaBelief", "timm"),
    case("AdaBelief", "timm", second=0.0),
    case("AdaBelief", "timm", second=0.0, weight_decay=0.0),
    case("AdaBelief", "timm", betas=(0.8, 0.9)),
    case("AdaBelief", "timm", eps=0.03),
    case("AdaBelief", "optax", second=0.0, weight_decay=0.0),
    case("AdaBelief", "optax", second=0.0, weight_decay=0.0, betas=(0.8, 0.9)),
    case("AdaBelief", "optax", second=0.0, weight_decay=0.0, eps=0.03),
    # optax's NovoGrad begins with the first gradient, even if it is zero: timm's, with the first that isn't
    case("NovoGrad", "timm"),
    case("NovoGrad", "timm", second=0.0),
    case("NovoGrad", "timm", betas=(0.8, 0.9)),
    case("NovoGrad", "timm", eps=0.3),
    case("NovoGrad", "timm", grad_averaging=True),
    case("StableAdamW", "optimi"),
    case("StableAdamW", "optimi", second=0.0),
    case("StableAdamW", "optimi", betas=(0.8, 0.9)),
    case("StableAdamW", "optimi", eps=0.5),
    case("StableAdamW", "optimi", lr=0.005, betas=(0.95, 0.999)),
    # timm's decay isn't clipped, and eps stands elsewhere in its clip: without both, the two are one rule
    case("StableAdamW", "timm", second=0.0, weight_decay=0.0, eps=1e-18),
    case("Lion", "timm"),
    case("Lion", "timm", second=0.0),
    case("Lion", "timm", betas=(0.7, 0.9)),
    case("Lion", "timm", cautious=True),
    case("Lion", "optax"),
    case("Lion", "optax", betas=(0.7, 0.9)),
    case("ADOPT", "torch-adopt"),
    case("ADOPT", "torch-adopt", second=0.0),
    case("ADOPT", "torch-adopt", decoupled_weight_decay=True),
    case("ADOPT", "torch-adopt", clip_exp=None, eps=0.3),
    case("ADOPT", "torch-adopt", clip_exp=0.1, eps=0.3),
    case("ADOPT", "torch-adopt", betas=(0.8, 0.9)),
    case("ADOPT", "timm"),
    case("ADOPT", "timm", decoupled_weight_decay=True),
    case("ADOPT", "timm", clip_exp=None, eps=0.3),
    case("ADOPT", "timm", cautious=True),
    case("ADOPT", "optax", second=0.0, weight_decay=0.0),
    case("ADOPT", "optax", second=0.0, weight_decay=0.0, betas=(0.8, 0.9)),
    case("LaProp", "timm"),
    case("LaProp", "timm", second=0.0),
    case("LaProp", "timm", betas=(0.8, 0.9)),
    case("LaProp", "timm", eps=0.3),
    case("LaProp", "timm", cautious=True),
    case("LaProp", "timm", corrected_weight_decay=True),
    # optax's Adan has another factor of the change
    case("Adan", "timm"),
    case("Adan", "timm", second=0.0),
    case("Adan", "timm", betas=(0.9, 0.7, 0.95)),
    case("Adan", "timm", eps=0.3),
    case("Adan", "timm", no_prox=True),
    case("AdEMAMix", "pytorch-optimizer"),
    case("AdEMAMix", "pytorch-optimizer", second=0.0),
    case("AdEMAMix", "pytorch-optimizer", betas=(0.8, 0.9, 0.97), alpha=5.0),
    case("AdEMAMix", "pytorch-optimizer", eps=0.3),
    case("AdEMAMix", "pytorch-optimizer", beta3_warmup=20, alpha_warmup=20),
    case("AdEMAMix", "optax"),
    case("AdEMAMix", "optax", beta3_warmup=20),
    case("AdEMAMix", "optax", alpha_warmup=20),
    case("AdEMAMix", "optax", beta3_warmup=20, alpha_warmup=20),
    case("AdamP", "timm"),
    case("AdamP", "timm", delta=0.6),
    case("AdamP", "timm", delta=1.2, second=0.0),
    case("AdamP", "timm", delta=3.0, wd_ratio=0.5),              # which all rows are within
    case("AdamP", "timm", delta=0.6, nesterov=True),
    case("AdamP", "timm", delta=0.6, betas=(0.8, 0.9), eps=0.3),
    *[Case("AdamMini", "adam-mini", BASE["AdamMini"] | options, {"weight_decay": 0.02, "block": "tensor"} | second)
      for options, second in (({}, {}), ({"betas": (0.8, 0.9), "eps": 0.3}, {"weight_decay": 0.0}),
                              ({}, {"block": "head", "heads": 2}), ({"block": "head", "heads": 1}, {"block": "none"}),
                              ({"block": "tensor"}, {}), ({"block": "none"}, {}))],
    case("Lookahead", "pytorch-optimizer"),
    case("Lookahead", "pytorch-optimizer", k=2, alpha=0.8),
    case("Lookahead", "pytorch-optimizer", k=1, alpha=0.3),
    case("SAM", "pytorch-optimizer"),
    case("SAM", "pytorch-optimizer", rho=2.0),
    case("SAM", "pytorch-optimizer", adaptive=True),
    # the authors' first step isn't timm's
    case("MARS", "timm"),
    case("MARS", "timm", second=0.0),
    case("MARS", "timm", betas=(0.8, 0.9), betas_1d=(0.7, 0.8)),
    case("MARS", "timm", eps=0.3),
    case("MARS", "timm", gamma=0.3),
    case("MARS", "timm", gamma=0.3, optimize_1d=True),
    case("MARS", "timm", gamma=0.3, cautious=True),
    case("ScheduleFreeSGD", "schedulefree"),
    case("ScheduleFreeSGD", "schedulefree", second=0.0),
    case("ScheduleFreeSGD", "schedulefree", momentum=0.5),
    case("ScheduleFreeSGD", "schedulefree", warmup_steps=5),
    case("ScheduleFreeSGD", "schedulefree", warmup_steps=5, weight_lr_power=0.7),
    case("ScheduleFreeSGD", "schedulefree", r=1.5),
    case("ScheduleFreeAdamW", "schedulefree"),
    case("ScheduleFreeAdamW", "schedulefree", second=0.0),
    case("ScheduleFreeAdamW", "schedulefree", betas=(0.8, 0.9)),
    case("ScheduleFreeAdamW", "schedulefree", eps=0.3),
    case("ScheduleFreeAdamW", "schedulefree", warmup_steps=5),
    case("ScheduleFreeAdamW", "schedulefree", warmup_steps=5, weight_lr_power=0.7),
    case("ScheduleFreeAdamW", "schedulefree", r=1.5),
    case("ScheduleFreeRAdam", "schedulefree"),
    case("ScheduleFreeRAdam", "schedulefree", second=0.0),
    case("ScheduleFreeRAdam", "schedulefree", silent_sgd_phase=False),
    case("ScheduleFreeRAdam", "schedulefree", betas=(0.8, 0.7)),
    case("ScheduleFreeRAdam", "schedulefree", eps=0.3),
    case("ScheduleFreeRAdam", "schedulefree", weight_lr_power=0.7),
    case("ScheduleFreeRAdam", "schedulefree", r=1.5),
    case("Prodigy", "prodigyopt"),
    case("Prodigy", "prodigyopt", second=0.0),
    case("Prodigy", "prodigyopt", betas=(0.8, 0.9), beta3=0.7),
    case("Prodigy", "prodigyopt", decouple=False),
    case("Prodigy", "prodigyopt", use_bias_correction=True),
    case("Prodigy", "prodigyopt", safeguard_warmup=True),
    case("Prodigy", "prodigyopt", eps=0.3, lr=0.5),
    case("Prodigy", "prodigyopt", d0=1e-2, d_coef=2.0),
    case("Prodigy", "prodigyopt", growth_rate=1.1),
    case("DAdaptAdam", "dadaptation"),
    case("DAdaptAdam", "dadaptation", second=0.0),
    case("DAdaptAdam", "dadaptation", betas=(0.8, 0.9)),
    case("DAdaptAdam", "dadaptation", decouple=False),
    case("DAdaptAdam", "dadaptation", use_bias_correction=True),
    case("DAdaptAdam", "dadaptation", eps=0.3, lr=0.5),
    case("DAdaptAdam", "dadaptation", d0=1e-2),
    case("DAdaptAdam", "dadaptation", growth_rate=1.1),
    case("DAdaptAdam", "dadaptation", scaled=2.0),
    case("DoG", "dog"),
    case("DoG", "dog", second=0.0),
    case("DoG", "dog", lr=0.5, reps_rel=0.03),
    case("DoG", "dog", eps=3.0),
    case("DoG", "dog", init_eta=0.1),
    case("LDoG", "dog"),
    case("LDoG", "dog", second=0.0),
    case("LDoG", "dog", lr=0.5, reps_rel=0.03),
    case("LDoG", "dog", eps=3.0),
    case("LDoG", "dog", init_eta=0.1),
    case("NorMuon", "pytorch-optimizer", use_muon=False),
    case("NorMuon", "pytorch-optimizer", use_muon=False, lr=0.1, beta2=0.6),
    case("NorMuon", "pytorch-optimizer", use_muon=False, momentum=0.7, nesterov=False),
    case("NorMuon", "pytorch-optimizer", use_muon=False, ns_steps=2, adjust_lr_fn="match_rms_adamw"),
    case("NorMuon", "pytorch-optimizer", use_muon=False, ns_coefficients="polar_express", eps=1e-15),
    case("NorMuon", "pytorch-optimizer", use_muon=False, ns_coefficients=((4.0, -6.0, 2.5), (2.8, -3.0, 1.2)),
         ns_steps=2, betas=(0.8, 0.9)),
    case("SOAP", "pytorch-optimizer"),
    case("SOAP", "pytorch-optimizer", second=0.0),
    case("SOAP", "pytorch-optimizer", betas=(0.8, 0.9), eps=0.03),
    case("SOAP", "pytorch-optimizer", shampoo_beta=0.7, precondition_frequency=1),
    case("SOAP", "pytorch-optimizer", max_precond_dim=3),
    case("SOAP", "pytorch-optimizer", max_precond_dim=5, merge_dims=True),
    case("SOAP", "pytorch-optimizer", precondition_1d=True, max_precond_dim=3),
    case("SOAP", "pytorch-optimizer", correct_bias=False),
    case("SOAP", "pytorch-optimizer", normalize_grads=True, eps=1e-14),
    case("Shampoo", "torch-shampoo"),
    case("Shampoo", "torch-shampoo", second=0.0),
    case("Shampoo", "torch-shampoo", merge_dims=True, max_preconditioner_dim=6),
    case("Shampoo", "torch-shampoo", merge_dims=True),
    case("Shampoo", "torch-shampoo", betas=(0.0, 1.0)),
    case("Shampoo", "torch-shampoo", betas=(0.5, 0.8), use_bias_correction=False, merge_dims=True),  # else it spoils m
    case("Shampoo", "torch-shampoo", eps=0.1),
    case("Shampoo", "torch-shampoo", max_preconditioner_dim=3, grafting="sgd"),
    case("Shampoo", "torch-shampoo", grafting="adagrad", start_preconditioning_step=4),
    case("Shampoo", "torch-shampoo", grafting="rmsprop", grafting_eps=0.1),
    case("Shampoo", "torch-shampoo", grafting="adam", precondition_frequency=3, max_preconditioner_dim=2),
    case("Shampoo", "torch-shampoo", grafting="adam", grafting_beta2=0.6),
    case("Shampoo", "torch-shampoo", precondition_frequency=3, start_preconditioning_step=5),
    case("Shampoo", "torch-shampoo", momentum=0.8),
    case("Shampoo", "torch-shampoo", momentum=0.8, nesterov=True, grafting="sgd"),
]}


def initial(dtype: str, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> list[np.ndarray]:
    """Magnitudes of 1 to 2, but zeros for the last."""
    return [np.asarray((i < len(shapes) - 1) * away(shape) * (1 + abs(noise(100 + i, *shape))), dtype)
            for i, shape in enumerate(shapes)]


def gradients(dtype: str, t: int, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> list[np.ndarray]:
    """Of step t, from 1 on: noise around a drift; exact in float32."""
    found = []
    for i, shape in enumerate(shapes):
        values = noise(1000 * i + t, *shape) - 0.25 * away(shape)
        scale = 0.0 if t == STANDSTILL or (t == 1 and i in (1, 3)) else 8.0 if t in BURST else 1.0
        found.append(np.asarray(scale * values, dtype))
    return found


def trajectory(case: Case, dtype: str, library: Any, maximize: bool = False) -> dict[int, dict[str, np.ndarray]]:
    """The parameters after each snapshot.

    A `library` makes an optimizer of arrays in two groups; the optimizer's `step(gradients, lr)` changes the arrays.
    """
    shapes = SHAPES_OF.get(case.optimizer, SHAPES)
    params = initial(dtype, shapes)
    optimizer = library(case, params[:2], params[2:], **({"maximize": True} if maximize else {}))
    path = {}
    for t in range(1, STEPS + 1):
        lr = case.options["lr"] * (1.0 if t < LR_CHANGES else 0.375)
        optimizer.step([-g if maximize else g for g in gradients(dtype, t, shapes)], lr)
        if t in SNAPSHOTS:
            path[t] = {str(i): np.array(p) for i, p in enumerate(params)}
    return path


class Ours:
    """optimlite's optimizer, as `trajectory` wants it."""

    def __init__(self, case: Case, first: list[np.ndarray], second: list[np.ndarray], **options: Any) -> None:
        ol = import_module("optimlite")          # here: the golden files are made without it
        around = {key: case.options[key] for key in WRAPPERS.get(case.optimizer, ())}
        inside = {key: value for key, value in case.options.items() if key not in around}
        make = ol.AdamW if around else getattr(ol, case.optimizer)
        self.params = [*first, *second]
        self.optimizer = make([{"params": first}, {"params": second, **case.second}], **inside, **options)
        self.again = case.optimizer == "SAM"
        if around:
            self.optimizer = getattr(ol, case.optimizer)(self.optimizer, **around)

    def step(self, gradients: list[np.ndarray], lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        sign = -1 if self.optimizer.param_groups[0]["maximize"] else 1

        def closure() -> tuple[float, list[list[np.ndarray]]]:
            there = [g + sign * AGAIN * p for g, p in zip(gradients, self.params, strict=True)]
            return 0.0, [there[:2], there[2:]]

        self.optimizer.step(closure) if self.again else self.optimizer.step(grads=[gradients[:2], gradients[2:]])


# Around AdamW, and their own options.  SAM's second gradient is another one: the loss has half of AGAIN * p^2, too.
WRAPPERS = {"Lookahead": ("k", "alpha"), "SAM": ("rho", "adaptive")}
AGAIN = 0.5


def golden_file(optimizer: str) -> Path:
    """The file of the oracles' trajectories for one optimizer."""
    return Path(__file__).parent / "golden" / f"oracles_{optimizer}.npz"


@cache
def golden(name: str) -> Trajectory:
    with np.load(golden_file(CASES[name].optimizer)) as file:
        return {t: unpack(record) for t, record in zip(SNAPSHOTS, file[name], strict=True)}


def largest_error(ours: Trajectory, theirs: Trajectory) -> tuple[float, str]:
    """And where it is."""
    return max((error(ours[t][name], array), f"parameter {name} after step {t}")
               for t, arrays in theirs.items() for name, array in arrays.items())
