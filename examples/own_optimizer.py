# An optimizer of your own: the rule in plain NumPy; groups, schedules and checkpoints come from the base class.
from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import optimlite as ol


class SignSGD(ol.Optimizer):
    """Takes steps of one size, whose signs are those of the averaged gradient (Signum; Bernstein et al. 2018).

        m = momentum * m + (1 - momentum) * grad
        p = p - lr * sign(m)

    It needs no second moment and doesn't mind the gradient's scale; `lr` is how far every element moves.
    """

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.9) -> None:
        if not lr >= 0:  # so phrased, NaN is refused too
            raise ValueError(f"`lr` must be >= 0, got {lr!r}")
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1), got {momentum!r}")
        super().__init__(params, {"lr": lr, "momentum": momentum})  # what a group doesn't say itself

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else closure()
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]  # read each time: a schedule may have changed them
            for p in group["params"]:
                if p.grad is None:  # frozen, or not used this time
                    continue
                state = self.state[p]
                if "momentum_buffer" not in state:  # this parameter's first step
                    state["momentum_buffer"] = np.zeros_like(p.data)
                m = state["momentum_buffer"]
                m *= momentum  # in place: a state dict, a checkpoint and this loop all know this one array
                m += (1 - momentum) * p.grad
                p.data -= lr * np.sign(m)
        return loss


def new() -> tuple[ol.Parameter, SignSGD, ol.lr_scheduler.StepLR]:
    w = ol.Parameter(np.zeros(3, np.float32), name="w")
    opt = SignSGD([w], lr=0.1)
    return w, opt, ol.lr_scheduler.StepLR(opt, step_size=20, gamma=0.5)


def fit(w: ol.Parameter, opt: SignSGD, scheduler: ol.lr_scheduler.StepLR, steps: int) -> float:
    """Steps towards the coefficients (1, -2, 3) of a linear model; returns half the mean squared error."""
    x = np.random.default_rng(0).standard_normal((200, 3), dtype=np.float32)
    y = x @ np.array([1, -2, 3], np.float32)
    for _ in range(steps):
        opt.zero_grad()
        error = x @ w - y
        w.grad = x.T @ error / len(x)
        opt.step()
        scheduler.step()
    return float(np.mean(error**2) / 2)


def main() -> int:
    w, opt, scheduler = new()
    fit(w, opt, scheduler, 60)
    checkpoint = pickle.dumps((w.data, opt.state_dict(), scheduler.state_dict()))
    loss = fit(w, opt, scheduler, 60)
    print(f"loss {loss:.1e}, w = {w.data.round(3)}")

    # The second half again, in fresh objects that know the first half from the checkpoint alone.
    w2, opt2, scheduler2 = new()
    w2.data, opt_state, scheduler_state = pickle.loads(checkpoint)
    opt2.load_state_dict(opt_state)
    scheduler2.load_state_dict(scheduler_state)
    fit(w2, opt2, scheduler2, 60)
    exact = w2.data.tobytes() == w.data.tobytes()
    print(f"resumed half-way: {'the same' if exact else 'OTHER'} bits")
    return 0 if exact and loss < 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
