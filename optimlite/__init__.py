"""optimlite: torch.optim for NumPy, with compiled update rules."""

from typing import TYPE_CHECKING, Any

from . import _late
from ._threads import get_num_threads, set_num_threads
from .adadelta import Adadelta
from .adagrad import Adagrad
from .adam import Adam, AdamW
from .adamax import Adamax
from .asgd import ASGD
from .average import Average
from .denormals import get_flush_denormal, set_flush_denormal
from .gradients import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from .groups import group_by_name
from .hooks import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from .nadam import NAdam
from .optimizer import Optimizer
from .parameter import Parameter
from .radam import RAdam
from .rmsprop import RMSprop
from .rprop import Rprop
from .sgd import SGD
from .sparse import SparseGrad
from .sparse_adam import SparseAdam
from .torch_bridge import to_torch

if TYPE_CHECKING:
    from . import line_search, lr_scheduler
    from .adafactor import Adafactor
    from .checkpoint import CheckpointError, Checkpoints, load, restore, save
    from .conjugate_gradient import ConjugateGradient
    from .lbfgs import LBFGS
    from .minimizing import minimize
    from .muon import Muon

__version__ = "0.1.0"

__all__ = [
    "ASGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "ConjugateGradient",
    "LBFGS",
    "Muon",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
    "SparseAdam",
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
    "Adafactor": "adafactor", "Muon": "muon",
    "ConjugateGradient": "conjugate_gradient", "LBFGS": "lbfgs", "minimize": "minimizing",
    **dict.fromkeys(("CheckpointError", "Checkpoints", "load", "restore", "save"), "checkpoint"),
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'optimlite' has no attribute '{name}'")
    module = _late.imported(f"{__name__}.{_LATE[name]}")
    globals()[name] = value = module if name == _LATE[name] else getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
