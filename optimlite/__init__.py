"""torch.optim for NumPy: optimizers that update the arrays of your model in place, through compiled kernels.

    import numpy as np
    import optimlite as ol

    params = {"W": np.zeros((20, 1)), "b": np.zeros(1)}          # any nesting of float32 and float64 arrays
    opt = ol.Adam(params, lr=1e-2)
    opt.step(grads={"W": np.ones((20, 1)), "b": np.ones(1)})     # one step, in place: params["W"] has moved

optimizers     SGD Adam AdamW NAdam RAdam Adamax Adagrad Adadelta RMSprop Rprop ASGD Adafactor LAMB LARS
               NovoGrad AdaBelief AdamP AdamMini StableAdamW Lion ADOPT LaProp Adan AdEMAMix MARS SparseAdam; of whole
               matrices Muon NorMuon SOAP Shampoo; of one's own: Optimizer;
               without a schedule ScheduleFreeSGD ScheduleFreeAdamW ScheduleFreeRAdam, without a rate Prodigy DAdaptAdam
               DoG LDoG
by name        available(), create("adamw", params); around another optimizer: Lookahead, SAM
closures       LBFGS, ConjugateGradient, NewtonCG, line_search; minimize, least_squares, as in SciPy; minimize_batch
schedules      lr_scheduler.StepLR and the rest of torch's family, WarmupCosineLR, WarmupStableDecayLR; as plain
               functions schedules.cosine and its like
parameters     Parameter (an array with a .grad), SparseGrad, group_by_name, Average
gradients      opt.step(max_grad_norm=1.0, ...); clip_grad_norm_, clip_grad_value_, get_total_norm; check_grad
watching       lr_find, EarlyStopping, Progress, NoiseScale, opt.metrics(), opt.watch(), log.CSV …, plot_metrics
checkpoints    save, load, restore, Checkpoints; `python -m optimlite inspect FILE`; to_torch
settings       set_num_threads, set_flush_denormal

help(ol.Adam) has the formula, every argument and an example; so has help of every other name above.  README.md shows
whole training loops, docs/ has pages on all of this, examples/ has programs; `optimlite.mpi` is for many machines.
"""

import sys
from typing import TYPE_CHECKING, Any

from . import late_imports
from . import native as native  # first: it says what to do where compiled modules can't be imported
from .engine.hooks import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from .engine.optimizer import Optimizer
from .engine.parameter import Parameter
from .engine.sparse_grad import SparseGrad
from .native.denormals import get_flush_denormal, set_flush_denormal
from .native.threads import get_num_threads, set_num_threads
from .optimizers.adam import Adam, AdamW
from .optimizers.sgd import SGD

if TYPE_CHECKING:
    from . import line_search, log, lr_scheduler, schedules
    from .average import Average
    from .catalogue import available, create
    from .checkpoint import CheckpointError, Checkpoints, load, restore, save
    from .checkpoint.torch_states import to_torch
    from .clipping import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
    from .closures.batch import minimize_batch
    from .closures.conjugate_gradient import ConjugateGradient
    from .closures.lbfgs import LBFGS
    from .closures.least_squares.front_door import least_squares
    from .closures.minimize import minimize
    from .closures.newton import NewtonCG
    from .closures.sam import SAM
    from .grouping import group_by_name
    from .optimizers.adabelief import AdaBelief
    from .optimizers.adadelta import Adadelta
    from .optimizers.adafactor import Adafactor
    from .optimizers.adagrad import Adagrad
    from .optimizers.adam_mini import AdamMini
    from .optimizers.adamax import Adamax
    from .optimizers.adamp import AdamP
    from .optimizers.adan import Adan
    from .optimizers.ademamix import AdEMAMix
    from .optimizers.adopt import ADOPT
    from .optimizers.asgd import ASGD
    from .optimizers.dadapt_adam import DAdaptAdam
    from .optimizers.dog import DoG, LDoG
    from .optimizers.lamb import LAMB
    from .optimizers.laprop import LaProp
    from .optimizers.lars import LARS
    from .optimizers.lion import Lion
    from .optimizers.lookahead import Lookahead
    from .optimizers.mars import MARS
    from .optimizers.muon import Muon, NorMuon
    from .optimizers.nadam import NAdam
    from .optimizers.novograd import NovoGrad
    from .optimizers.prodigy import Prodigy
    from .optimizers.radam import RAdam
    from .optimizers.rmsprop import RMSprop
    from .optimizers.rprop import Rprop
    from .optimizers.schedule_free import ScheduleFreeAdamW, ScheduleFreeRAdam, ScheduleFreeSGD
    from .optimizers.shampoo import Shampoo
    from .optimizers.soap import SOAP
    from .optimizers.sparse_adam import SparseAdam
    from .optimizers.stable_adamw import StableAdamW
    from .tools.early_stopping import EarlyStopping
    from .tools.gradient_check import check_grad
    from .tools.metric_plots import plot_metrics
    from .tools.noise_scale import NoiseScale
    from .tools.progress import Progress
    from .tools.rate_finder import lr_find

__version__ = "0.1.0"

__all__ = [
    "ADOPT", "ASGD", "AdaBelief", "AdEMAMix", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamMini", "AdamP",
    "AdamW", "Adamax", "Adan", "ConjugateGradient", "DAdaptAdam", "DoG", "LAMB", "LARS", "LBFGS", "LDoG", "LaProp",
    "Lion", "Lookahead", "MARS", "Muon", "NAdam", "NewtonCG", "NorMuon", "NovoGrad", "Prodigy", "RAdam", "RMSprop",
    "Rprop", "SAM", "SGD", "SOAP", "ScheduleFreeAdamW", "ScheduleFreeRAdam", "ScheduleFreeSGD", "Shampoo",
    "SparseAdam", "StableAdamW",
    "Average", "CheckpointError", "Checkpoints", "EarlyStopping", "NoiseScale", "Optimizer", "Parameter",
    "Progress", "SparseGrad", "available", "check_grad", "clip_grad_norm_", "clip_grad_value_",
    "clip_grads_with_norm_", "create", "get_flush_denormal", "get_num_threads", "get_total_norm", "group_by_name",
    "least_squares", "line_search", "load", "log", "lr_find", "lr_scheduler", "minimize", "minimize_batch",
    "plot_metrics", "register_optimizer_step_post_hook", "register_optimizer_step_pre_hook", "restore", "save",
    "schedules", "set_flush_denormal", "set_num_threads", "to_torch",
]

# Where names live that are imported at their first use: more than half of the import's time, for what many programs
# don't touch.  Adam, AdamW and SGD are here already.
_LATE = late_imports.MODULES
_LATE |= {name: module for module, names in {
    "average": "Average", "catalogue": "available create",
    "checkpoint": "CheckpointError Checkpoints load restore save",
    "clipping": "clip_grad_norm_ clip_grad_value_ clip_grads_with_norm_ get_total_norm", "grouping": "group_by_name",
    "line_search": "line_search", "log": "log", "lr_scheduler": "lr_scheduler", "schedules": "schedules",
    "checkpoint.torch_states": "to_torch", "closures.batch": "minimize_batch",
    "closures.conjugate_gradient": "ConjugateGradient", "closures.lbfgs": "LBFGS", "closures.minimize": "minimize",
    "closures.newton": "NewtonCG", "closures.sam": "SAM", "optimizers.adabelief": "AdaBelief",
    "optimizers.adadelta": "Adadelta", "optimizers.adafactor": "Adafactor", "optimizers.adagrad": "Adagrad",
    "optimizers.adam": "Adam AdamW", "optimizers.adam_mini": "AdamMini", "optimizers.adamax": "Adamax",
    "optimizers.adamp": "AdamP", "optimizers.adan": "Adan", "optimizers.ademamix": "AdEMAMix",
    "optimizers.adopt": "ADOPT", "optimizers.asgd": "ASGD", "optimizers.dadapt_adam": "DAdaptAdam",
    "optimizers.dog": "DoG LDoG", "optimizers.lamb": "LAMB", "optimizers.laprop": "LaProp", "optimizers.lars": "LARS",
    "optimizers.lion": "Lion", "optimizers.lookahead": "Lookahead", "optimizers.mars": "MARS",
    "optimizers.muon": "Muon NorMuon", "optimizers.nadam": "NAdam", "optimizers.novograd": "NovoGrad",
    "optimizers.prodigy": "Prodigy", "optimizers.radam": "RAdam", "optimizers.rmsprop": "RMSprop",
    "optimizers.rprop": "Rprop", "optimizers.schedule_free": "ScheduleFreeAdamW ScheduleFreeRAdam ScheduleFreeSGD",
    "optimizers.sgd": "SGD", "optimizers.shampoo": "Shampoo", "optimizers.soap": "SOAP",
    "optimizers.sparse_adam": "SparseAdam", "optimizers.stable_adamw": "StableAdamW",
    "tools.early_stopping": "EarlyStopping", "tools.gradient_check": "check_grad",
    "tools.metric_plots": "plot_metrics", "tools.noise_scale": "NoiseScale", "tools.progress": "Progress",
    "tools.rate_finder": "lr_find", "closures.least_squares.front_door": "least_squares",
}.items() for name in names.split()}

_public = __all__
del __all__                  # found by `__getattr__`

if not TYPE_CHECKING:         # to checkers, every name would be there
    def __getattr__(name: str) -> Any:
        if name == "__all__" and sys._getframe(1).f_globals.get("__name__") != "pydoc":
            return _public       # not for `help(ol)`, which would print every method of every class: 3,600 lines
        if name not in _LATE:
            # importlib asks for a module that it is about to import
            meant = "" if sys._getframe(1).f_code.co_name == "_handle_fromlist" else _suggestion(name)
            raise AttributeError(f"module 'optimlite' has no attribute '{name}'{meant}")
        module = late_imports.imported(f"{__name__}.{_LATE[name]}")
        globals()[name] = value = module if name == _LATE[name] else getattr(module, name)
        return value


def _suggestion(name: str) -> str:
    if name.startswith("_"):                     # asked for by tools, not by users
        return ""
    if name in ("autograd", "jax", "sklearn", "thinc", "torch"):
        return f"; import it: `import optimlite.{name}`"
    from .checks import resembling

    if meant := resembling(name, _public):
        return f"; did you mean `{meant}`?"
    if name in late_imports.imported(f"{__name__}.lr_scheduler").__all__:
        return f"; did you mean `lr_scheduler.{name}`?"
    return ""


def __dir__() -> list[str]:
    """What is meant for users; submodules and helpers are there without being shown."""
    return sorted([*_public, "__version__"])
