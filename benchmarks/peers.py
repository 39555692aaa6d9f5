"""Whom optimlite is compared with: NumPy, written plainly and by a hand that counts passes; Numba; torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .problem import ALL, Array, Problem, Stepper

# NumPy ---------------------------------------------------------------------------------------------------------------

class Naive(Stepper):
    """The formula as one would write it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.states = [problem.zeros() for _ in range(self.work.states)]
        self.step = {0: self.sgd, 1: self.momentum, 2: self.adam}[self.work.states]      # type: ignore[method-assign]

    def sgd(self, gradients: list[Array]) -> None:
        for p, g in zip(self.arrays, gradients, strict=True):
            p -= self.h["lr"] * g

    def momentum(self, gradients: list[Array]) -> None:
        buffers = self.states[0]
        for i, (p, g) in enumerate(zip(self.arrays, gradients, strict=True)):
            buffers[i] = self.h["momentum"] * buffers[i] + g
            p -= self.h["lr"] * buffers[i]

    def adam(self, gradients: list[Array]) -> None:
        (ms, vs), h, t = self.states, self.h, self.t
        for i, (p, g) in enumerate(zip(self.arrays, gradients, strict=True)):
            ms[i] = h["beta1"] * ms[i] + (1 - h["beta1"]) * g
            vs[i] = h["beta2"] * vs[i] + (1 - h["beta2"]) * g**2
            m_hat = ms[i] / (1 - h["beta1"]**t)
            v_hat = vs[i] / (1 - h["beta2"]**t)
            if h["weight_decay"]:
                p -= h["lr"] * h["weight_decay"] * p
            p -= h["lr"] * m_hat / (np.sqrt(v_hat) + h["eps"])


class InPlace(Naive):
    """Optimised by hand: no temporaries, as few passes as NumPy allows, constants folded."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        block = np.empty(max(p.size for p in self.arrays), np.float32)
        self.scratch = [block[:p.size].reshape(p.shape) for p in self.arrays]

    def sgd(self, gradients: list[Array]) -> None:
        for p, g, s in zip(self.arrays, gradients, self.scratch, strict=True):
            np.multiply(g, self.h["lr"], out=s)
            np.subtract(p, s, out=p)

    def momentum(self, gradients: list[Array]) -> None:
        for p, g, b, s in zip(self.arrays, gradients, *self.states, self.scratch, strict=True):
            np.multiply(b, self.h["momentum"], out=b)
            np.add(b, g, out=b)
            np.multiply(b, self.h["lr"], out=s)
            np.subtract(p, s, out=p)

    def adam(self, gradients: list[Array]) -> None:
        step_size, inv_root_bias2, keep = finished(self.h, self.t)
        beta1, beta2, fresh1, fresh2 = self.h["beta1"], self.h["beta2"], 1 - self.h["beta1"], 1 - self.h["beta2"]
        for p, g, m, v, s in zip(self.arrays, gradients, *self.states, self.scratch, strict=True):
            np.multiply(m, beta1, out=m)
            np.multiply(g, fresh1, out=s)
            np.add(m, s, out=m)
            np.multiply(v, beta2, out=v)
            np.multiply(s, g, out=s)
            np.multiply(s, fresh2 / fresh1, out=s)
            np.add(v, s, out=v)
            np.sqrt(v, out=s)
            np.multiply(s, inv_root_bias2 / step_size, out=s)
            np.add(s, self.h["eps"] / step_size, out=s)
            np.divide(m, s, out=s)
            if keep != 1:
                np.multiply(p, keep, out=p)
            np.subtract(p, s, out=p)


def finished(h: dict[str, float], t: int) -> tuple[float, float, float]:
    """Adam's coefficients of step t: step size, 1 / sqrt(bias correction 2), and what decay keeps of p."""
    return h["lr"] / (1 - h["beta1"]**t), 1 / math.sqrt(1 - h["beta2"]**t), 1 - h["lr"] * h["weight_decay"]


# Numba ---------------------------------------------------------------------------------------------------------------

class Numba(Stepper):
    """A compiled loop per tensor, on all threads from the size on where that pays."""

    def __init__(self, problem: Problem) -> None:
        import numba

        from . import numba_kernels

        super().__init__(problem)
        numba.set_num_threads(min(ALL, numba.get_num_threads()))
        self.calls: list[tuple[Any, tuple[Array, ...]]]
        serial, parallel = numba_kernels.KERNELS[self.work.states]
        flat = [[a.reshape(-1) for a in arrays]
                for arrays in (self.arrays, *[problem.zeros() for _ in range(self.work.states)])]
        self.sets = [[g.reshape(-1) for g in gradients] for gradients in self.sets]
        self.calls = [(parallel if row[0].size >= numba_kernels.PARALLEL else serial, row)
                      for row in zip(*flat, strict=True)]

    def step(self, gradients: list[Array]) -> None:
        numbers = self.coefficients()
        for (kernel, arrays), g in zip(self.calls, gradients, strict=True):
            kernel(g, *arrays, *numbers)

    def coefficients(self) -> tuple[np.float32, ...]:
        h = self.h
        values: tuple[float, ...] = (h["lr"],) if self.work.states == 0 else (h["lr"], h["momentum"])
        if self.work.states == 2:
            values = (h["beta1"], 1 - h["beta1"], h["beta2"], 1 - h["beta2"], h["eps"], *finished(h, self.t))
        return tuple(np.float32(value) for value in values)


# torch ---------------------------------------------------------------------------------------------------------------

class Torch(Stepper):
    flags: dict[str, bool] = {"foreach": False}

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.params, self.sets = problem.torch
        self.arrays = [p.detach().numpy() for p in self.params]
        self.optimizer = self.make()

    def make(self) -> Any:
        import torch

        return getattr(torch.optim, self.work.optimizer)(self.params, **self.work.arguments, **self.flags)

    def enter(self, threads: int = ALL) -> None:
        import torch

        torch.set_num_threads(threads)
        for p, g in zip(self.params, self.sets[0], strict=True):
            p.grad = g

    def step(self, gradients: list[Any]) -> None:
        if self.problem.fresh:
            for p, g in zip(self.params, gradients, strict=True):
                p.grad = g
        self.optimizer.step()


class TorchForeach(Torch):
    flags = {"foreach": True}


class TorchFused(Torch):
    flags = {"fused": True}
