"""optimlite's optimizers for PyTorch: `optimlite.torch.AdamW` takes the place of `torch.optim.AdamW` on the CPU.

    import optimlite.torch

    opt = optimlite.torch.AdamW(model.parameters(), lr=1e-3)     # the one line that changes
    loss.backward()
    opt.step()

Every optimizer of optimlite is here under its name, as a torch.optim.Optimizer: torch's schedulers, hooks and state
dicts work with it.  `wrap` makes such a class of an optimizer of your own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import torch as torch
except ImportError:
    raise ImportError("`optimlite.torch` needs PyTorch; install it with `pip install torch`") from None

from ..catalogue import named, names
from ..checks import resembling
from ..late_imports import imported

if TYPE_CHECKING:
    from .optimizer import TensorOptimizer, wrap

__all__ = ["TensorOptimizer", "wrap"]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):                    # asked for by tools
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    own = name in __all__
    if not own and name not in names():
        meant = resembling(name, names())
        raise AttributeError(f"module '{__name__}' has no optimizer `{name}`"
                             + (f"; did you mean `{meant}`?" if meant else ""))
    module = imported(f"{__name__}.optimizer")
    globals()[name] = value = getattr(module, name) if own else module.wrap(named(name))
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *names()])
