"""optimlite: torch.optim for NumPy, with compiled update rules."""

from typing import TYPE_CHECKING, Any

from . import late_imports
from . import native as native  # first: it says what to do where compiled modules can't be imported
from .average import Average
from .clipping import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from .engine.hooks import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from .engine.optimizer import Optimizer
from .engine.parameter import Parameter
from .engine.sparse_grad import SparseGrad
from .grouping import group_by_name
from .native.denormals import get_flush_denormal, set_flush_denormal
from .native.threads import get_num_threads, set_num_threads
from .optimizers.adadelta import Adadelta
from .optimizers.adagrad import Adagrad
from .optimizers.adam import Adam, AdamW
from .optimizers.adamax import Adamax
from .optimizers.asgd import ASGD
from .optimizers.nadam import NAdam
from .optimizers.radam import RAdam
from .optimizers.rmsprop import RMSprop
from .optimizers.rprop import Rprop
from .optimizers.sgd import SGD
from .optimizers.sparse_adam import SparseAdam
from .torch_bridge import to_torch

if TYPE_CHECKING:
    from . import line_search, lr_scheduler
    from .checkpoint import CheckpointError, Checkpoints, load, restore, save
    from .closures.conjugate_gradient import ConjugateGradient
    from .closures.lbfgs import LBFGS
    from .closures.minimize import minimize
    from .optimizers.adabelief import AdaBelief
    from .optimizers.adafactor import Adafactor
    from .optimizers.dadapt_adam import DAdaptAdam
    from .optimizers.dog import DoG, LDoG
    from .optimizers.lamb import LAMB
    from .optimizers.lars import LARS
    from .optimizers.muon import Muon
    from .optimizers.novograd import NovoGrad
    from .optimizers.prodigy import Prodigy
    from .optimizers.schedule_free import ScheduleFreeAdamW, ScheduleFreeRAdam, ScheduleFreeSGD
    from .optimizers.stable_adamw import StableAdamW

__version__ = "0.1.0"

__all__ = [
    "ASGD",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "ConjugateGradient",
    "DAdaptAdam",
    "DoG",
    "LAMB",
    "LARS",
    "LBFGS",
    "LDoG",
    "Muon",
    "NAdam",
    "NovoGrad",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
    "ScheduleFreeAdamW",
    "ScheduleFreeRAdam",
    "ScheduleFreeSGD",
    "SparseAdam",
    "StableAdamW",
    "Average",
    "CheckpointError",
    "Checkpoints",
    "Optimizer",
    "Parameter",
    "SparseGrad",
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_flush_denormal",
    "get_num_threads",
    "get_total_norm",
    "group_by_name",
    "line_search",
    "load",
    "lr_scheduler",
    "minimize",
    "register_optimizer_step_post_hook",
    "register_optimizer_step_pre_hook",
    "restore",
    "save",
    "set_flush_denormal",
    "set_num_threads",
    "to_torch",
]

# Imported at first use, and where they live: half of the import's time, for what many programs don't touch.
_LATE = {
    "line_search": "line_search", "lr_scheduler": "lr_scheduler",
    "AdaBelief": "optimizers.adabelief", "Adafactor": "optimizers.adafactor", "LAMB": "optimizers.lamb",
    "LARS": "optimizers.lars", "Muon": "optimizers.muon", "NovoGrad": "optimizers.novograd",
    "StableAdamW": "optimizers.stable_adamw",
    "DAdaptAdam": "optimizers.dadapt_adam", "DoG": "optimizers.dog", "LDoG": "optimizers.dog",
    "Prodigy": "optimizers.prodigy",
    **dict.fromkeys(("ScheduleFreeAdamW", "ScheduleFreeRAdam", "ScheduleFreeSGD"), "optimizers.schedule_free"),
    "ConjugateGradient": "closures.conjugate_gradient", "LBFGS": "closures.lbfgs", "minimize": "closures.minimize",
    **dict.fromkeys(("CheckpointError", "Checkpoints", "load", "restore", "save"), "checkpoint"),
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'optimlite' has no attribute '{name}'{_suggestion(name)}")
    module = late_imports.imported(f"{__name__}.{_LATE[name]}")
    globals()[name] = value = module if name == _LATE[name] else getattr(module, name)
    return value


def _suggestion(name: str) -> str:
    if name.startswith("_"):                     # asked for by tools, not by users
        return ""
    from .checks import resembling

    if meant := resembling(name, __all__):
        return f"; did you mean `{meant}`?"
    if name in late_imports.imported(f"{__name__}.lr_scheduler").__all__:
        return f"; did you mean `lr_scheduler.{name}`?"
    return ""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
