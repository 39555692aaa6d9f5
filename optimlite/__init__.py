"""optimlite: torch.optim for NumPy, with compiled update rules."""

from . import line_search, lr_scheduler
from ._threads import get_num_threads, set_num_threads
from .adadelta import Adadelta
from .adafactor import Adafactor
from .adagrad import Adagrad
from .adam import Adam, AdamW
from .adamax import Adamax
from .asgd import ASGD
from .average import Average
from .checkpoint import CheckpointError, Checkpoints, load, restore, save
from .conjugate_gradient import ConjugateGradient
from .denormals import get_flush_denormal, set_flush_denormal
from .gradients import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from .groups import group_by_name
from .hooks import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from .lbfgs import LBFGS
from .minimize import minimize
from .muon import Muon
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

__version__ = "0.1.0"

__all__ = [
    "ASGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Average",
    "Adamax",
    "Muon",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
    "CheckpointError",
    "Checkpoints",
    "ConjugateGradient",
    "LBFGS",
    "SparseAdam",
    "Optimizer",
    "Parameter",
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_flush_denormal",
    "SparseGrad",
    "get_num_threads",
    "group_by_name",
    "lr_scheduler",
    "register_optimizer_step_post_hook",
    "register_optimizer_step_pre_hook",
    "get_total_norm",
    "set_flush_denormal",
    "load",
    "restore",
    "save",
    "line_search",
    "minimize",
    "set_num_threads",
    "to_torch",
]
