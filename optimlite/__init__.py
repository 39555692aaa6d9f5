"""optimlite: torch.optim for NumPy, with compiled update rules."""

from . import lr_scheduler
from ._threads import get_num_threads, set_num_threads
from .adam import Adam, AdamW
from .average import Average
from .optimizer import Optimizer
from .parameter import Parameter
from .sgd import SGD
from .torch_bridge import to_torch

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Average",
    "Optimizer",
    "Parameter",
    "get_num_threads",
    "lr_scheduler",
    "set_num_threads",
    "to_torch",
]
