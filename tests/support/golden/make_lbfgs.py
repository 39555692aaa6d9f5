# Makes lbfgs.npz by running closures.py in torch 2.13.0: `python tests/support/golden/make_lbfgs.py`.
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support.closures import CASES, iterates


class TorchLBFGS:
    """torch's L-BFGS on NumPy arrays, with a closure that returns (loss, grads)."""

    def __init__(self, params: list[np.ndarray], **options: Any) -> None:
        self.params = [torch.nn.Parameter(torch.from_numpy(p)) for p in params]          # share memory
        self.optimizer = torch.optim.LBFGS(self.params, **options)

    def step(self, closure: Callable[[], tuple[float, list[np.ndarray]]]) -> float:
        def wrapped() -> float:
            loss, gradients = closure()
            for p, g in zip(self.params, gradients, strict=True):
                p.grad = torch.from_numpy(g)
            return loss

        return self.optimizer.step(wrapped)


def main() -> None:
    assert torch.__version__.split("+")[0] == "2.13.0", f"torch must be 2.13.0, got {torch.__version__}"
    golden = {name: iterates(case, TorchLBFGS) for name, case in CASES.items()}
    np.savez_compressed(Path(__file__).with_name("lbfgs.npz"), **golden)
    print(f"{len(golden)} runs, {sum(map(len, golden.values()))} iterates")


if __name__ == "__main__":
    main()
