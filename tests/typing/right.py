"""A user's program with types: mypy --strict and pyright accept it, and reveal what `assert_type` says.

Run it, too: what is typed is what happens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, assert_type

import numpy as np

import optimlite as ol
from optimlite import lr_scheduler

rng = np.random.default_rng(0)
x = rng.standard_normal((64, 3))
y = x @ np.array([1.0, -2.0, 0.5]) + 1

# A Parameter is typed as the array that it behaves as -----------------------------------------------------------------

W = ol.Parameter(np.zeros((3, 2)), name="W")
assert_type(W.shape, tuple[int, ...])
assert_type(W.ndim, int)
assert_type(W.size, int)
assert_type(W.name, str | None)
assert_type(W.data, np.ndarray)
assert_type(W.T, np.ndarray)
assert_type(W * 2, np.ndarray)
assert_type(2 * W, np.ndarray)
assert_type(-W, np.ndarray)
assert_type(abs(W), np.ndarray)
assert_type(W + W, np.ndarray)
assert_type(1.0 - W, np.ndarray)
assert_type(W / 2, np.ndarray)
assert_type(W**2, np.ndarray)
assert_type(W // 2, np.ndarray)
assert_type(W % 2, np.ndarray)
assert_type(W.T @ W, np.ndarray)
assert_type(W @ np.ones(2), np.ndarray)
assert_type(W < 1, np.ndarray)
assert_type(W == W, bool)
assert_type(len(W), int)
bias = ol.Parameter(np.zeros(2))
bias -= 0.1 * np.ones(2)
bias *= 2
assert_type(bias, ol.Parameter)
W[0] = 1.0
W.data = np.zeros((3, 2))
total = float(W.sum())
by_parameter: dict[ol.Parameter, str] = {W: "weights"}

W.grad = np.ones((3, 2))
W.accumulate_grad(np.ones((3, 2)))


def norm_of(parameter: ol.Parameter) -> float:
    grad = parameter.grad
    assert_type(grad, np.ndarray | ol.SparseGrad | None)
    if grad is None:
        return 0.0
    dense = grad.to_dense(len(parameter)) if isinstance(grad, ol.SparseGrad) else grad
    assert_type(dense, np.ndarray)
    return float(np.sqrt(np.sum(dense * dense)))


print(f"norm {norm_of(W):.1f}")

# Optimizers, groups, steps --------------------------------------------------------------------------------------------

w, b = np.zeros(3), np.zeros(1)
opt = ol.Adam({"w": w, "b": b}, lr=1e-1, betas=(0.9, 0.99), amsgrad=True)
assert_type(opt, ol.Adam)
assert_type(ol.create("adam-w", {"w": np.zeros(3)}, lr=1e-3), ol.Optimizer)
assert_type(ol.available("elementwise")["Adam"].elementwise, bool)
around = ol.Lookahead(ol.AdamP({"w": np.zeros(3)}, delta=0.1, corrected_weight_decay=True), k=5, alpha=0.5)
assert_type(around, ol.Lookahead)
groups = ol.SGD([{"params": [W]}, {"params": [np.zeros(2)], "lr": 1e-2}], lr=1e-1, momentum=0.9, nesterov=True)
rate: float = groups.param_groups[1]["lr"]
schedule = lr_scheduler.WarmupCosineLR(opt, warmup_steps=5, total_steps=400)
assert_type(schedule.at(3), list[float])

for _ in range(400):
    error = x @ w + b - y
    opt.step(grads={"w": x.T @ error / len(x), "b": error.mean(keepdims=True)}, max_grad_norm=1.0, skip_nonfinite=True)
    schedule.step()
assert_type(opt.last_grad_norm, float | None)
assert_type(opt.skipped_steps, int)
exp_avg: np.ndarray = opt.state[w]["exp_avg"]
assert_type(opt.state["w"]["step"], np.ndarray)
saved: dict[str, Any] = opt.state_dict()
mismatch = opt.load_state_dict(saved)
assert_type(mismatch.missing, list[str])
opt.zero_grad()
opt.state = {}
print(f"bias {b[0]:.3f}")

# Closures -------------------------------------------------------------------------------------------------------------


def closure() -> tuple[float, list[np.ndarray]]:
    error = x @ w - y
    return float(error @ error), [2 * x.T @ error]


lbfgs = ol.LBFGS([w], line_search_fn="strong_wolfe", callback=lambda result: result.iterations > 50, l1=0.1)
lbfgs.l1 = [0.1]
lbfgs.step(closure)
assert_type(lbfgs.result.converged, bool)
assert_type(lbfgs.result.reason, str)
found = ol.minimize(lambda v: (float(v @ v), 2 * v), np.ones(3), method="cg")
print(found.x, found.success)
fit = ol.least_squares(lambda v: x @ v - y, np.zeros(3), loss="huber", bounds=(None, 5.0))
assert_type(fit.covariance(), np.ndarray)
print(fit.x, fit.cost)
batch = ol.minimize_batch(lambda v, a: ((a * v * v).sum(axis=1), 2 * a * v), np.ones((4, 3)), (np.ones((4, 3)),))
print(batch.x, batch.success)

# An optimizer of one's own --------------------------------------------------------------------------------------------


class Descent(ol.Optimizer):
    def __init__(self, params: Any, lr: float = 1e-1) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data -= group["lr"] * p.grad
        return loss


class HalfLife(lr_scheduler.LRScheduler):
    def __init__(self, optimizer: ol.Optimizer, half_life: float) -> None:
        self.half_life = half_life
        super().__init__(optimizer)

    def closed_form(self, base: float, t: int, i: int) -> float:
        return base * math.exp2(-t / self.half_life)


own = Descent([W], lr=0.5)
own.step(lambda: 1.0)
HalfLife(own, 10).step()

# The rest -------------------------------------------------------------------------------------------------------------

average = ol.Average([w, b], decay=0.9)
average.update()
with average.swapped():
    print(f"averaged {w[0]:.2f}")
grads = {"w": np.ones(3), "b": [np.ones(1)]}
assert_type(ol.clip_grad_norm_(grads, 1.0), float)
assert_type(ol.get_total_norm(grads), float)
ol.clip_grad_value_([W], 0.5)
with ol.register_optimizer_step_post_hook(lambda optimizer, args, kwargs: print(type(optimizer).__name__)):
    own.step()
assert_type(ol.get_num_threads(), int)
decayed = ol.group_by_name({"w": w, "b": b}, {"b": {"weight_decay": 0}})
assert_type(ol.AdamW(decayed, lr=1e-3, weight_decay=0.1), ol.AdamW)

# Tools ----------------------------------------------------------------------------------------------------------------

sgd = ol.SGD({"w": w, "b": b}, lr=1e-3)
assert_type(sgd.metrics(), dict[str, float])
sgd.watch(every=5, parameters=True)
sgd.step_parameter("w", np.ones(3), max_grad_norm=1.0)
assert_type(ol.lr_find(sgd, lambda: (1.0, [np.ones(3), np.ones(1)])).lr, float)
assert_type(ol.check_grad(lambda p: (float(p @ p), 2 * p), np.ones(3)).ok, bool)
assert_type(ol.EarlyStopping(sgd).step(1.0), bool)
assert_type(ol.NoiseScale(8).value, float)
assert_type(ol.schedules.cosine(0.1, T_max=10)(3), float)
