"""Optimizers that measure whole tensors, in NumPy as one writes them who counts temporaries."""

from __future__ import annotations

import math

import numpy as np

from .problem import Array, Problem, Stepper


class InPlace(Stepper):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        defaults = {"LAMB": {"eps": 1e-6, "weight_decay": 0.01}, "Adafactor": {"eps": float(np.finfo(np.float32).eps)},
                    "MARS": {"beta1": 0.95, "beta2": 0.99, "gamma": 0.025},
                    "NovoGrad": {"beta1": 0.95, "beta2": 0.98},
                    "StableAdamW": {"beta2": 0.99, "eps": 1e-6, "weight_decay": 0.01}}
        self.h = {**self.h, **defaults.get(self.work.optimizer, {}), **self.work.arguments}
        self.states = [problem.zeros() for _ in range(self.work.states)]
        self.means = [np.zeros((len(p), 1), p.dtype) if p.ndim > 1 else np.zeros_like(p) for p in self.arrays]
        room = np.empty((2, max(p.size for p in self.arrays)), np.float32)
        self.sizes = [0.0] * len(self.arrays)
        self.d = self.h.get("d0", 0.0)
        self.numerator = 0.0
        self.ways = [[0.0, 0.0] for _ in self.arrays]        # distance, and sum of squares
        self.scratch = [(room[0, :p.size].reshape(p.shape), room[1, :p.size].reshape(p.shape)) for p in self.arrays]
        if self.work.optimizer == "Adafactor":
            self.states = [[np.zeros((*p.shape[:-1], 1) if p.ndim > 1 else p.shape, p.dtype) for p in self.arrays],
                           [np.zeros((*p.shape[:-2], 1, *p.shape[-1:]), p.dtype) for p in self.arrays]]
        self.step = {"LAMB": self.lamb, "LARS": self.lars, "MARS": self.mars,                         # type: ignore
                     "NovoGrad": self.novograd, "StableAdamW": self.stable_adamw, "Adafactor": self.adafactor,
                     "Prodigy": self.prodigy, "DAdaptAdam": self.dadapt_adam, "DoG": self.dog, "LDoG": self.ldog,
                     "AdamP": self.adamp, "AdamMini": self.adam_mini, "Adam": self.cautious_adam}[self.work.optimizer]

    def moments(self, g: Array, m: Array, v: Array, s: Array) -> None:
        h = self.h
        np.multiply(m, h["beta1"], out=m)
        np.multiply(g, 1 - h["beta1"], out=s)
        np.add(m, s, out=m)
        np.multiply(v, h["beta2"], out=v)
        np.multiply(g, g, out=s)
        np.multiply(s, 1 - h["beta2"], out=s)
        np.add(v, s, out=v)

    def direction(self, m: Array, v: Array, s: Array) -> None:
        # m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)
        bias1, root2 = 1 - self.h["beta1"]**self.t, math.sqrt(1 - self.h["beta2"]**self.t)
        np.sqrt(v, out=s)
        np.multiply(s, bias1 / root2, out=s)
        np.add(s, self.h["eps"] * bias1, out=s)
        np.divide(m, s, out=s)

    def lamb(self, gradients: list[Array]) -> None:
        h = self.h
        for p, g, m, v, (s, x) in zip(self.arrays, gradients, *self.states, self.scratch, strict=True):
            self.moments(g, m, v, s)
            self.direction(m, v, s)
            np.multiply(p, h["weight_decay"], out=x)
            np.add(s, x, out=s)
            weight, update = np.linalg.norm(p), np.linalg.norm(s)
            np.multiply(s, h["lr"] * (weight / update if weight and update else 1), out=s)
            np.subtract(p, s, out=p)

    def lars(self, gradients: list[Array]) -> None:
        h = self.h
        for p, g, b, (s, _) in zip(self.arrays, gradients, *self.states, self.scratch, strict=True):
            weight, gradient = np.linalg.norm(p), np.linalg.norm(g)
            ratio = 0.001 * weight / (gradient + h["weight_decay"] * weight + 1e-8) if weight and gradient else 1
            np.multiply(p, h["weight_decay"], out=s)
            np.add(s, g, out=s)
            np.multiply(s, ratio, out=s)
            np.multiply(b, h["momentum"], out=b)
            np.add(b, s, out=b)
            np.multiply(b, h["lr"], out=s)
            np.subtract(p, s, out=p)

    def mars(self, gradients: list[Array]) -> None:
        h = self.h
        change = h["gamma"] * h["beta1"] / (1 - h["beta1"]) if self.t > 1 else 0
        for p, g, m, v, last, (s, x) in zip(self.arrays, gradients, *self.states, self.scratch, strict=True):
            np.subtract(g, last, out=x)
            np.multiply(x, change, out=x)
            np.add(x, g, out=x)
            np.copyto(last, g)
            np.divide(x, max(1.0, float(np.linalg.norm(x))), out=x)
            self.moments(x, m, v, s)
            self.direction(m, v, s)
            np.multiply(s, h["lr"], out=s)
            np.subtract(p, s, out=p)

    def adamp(self, gradients: list[Array]) -> None:
        h = self.h
        for p, g, m, v, (s, x) in zip(self.arrays, gradients, *self.states, self.scratch, strict=True):
            self.moments(g, m, v, s)
            self.direction(m, v, s)
            decay = h["weight_decay"]
            for rows in (len(p), 1) if p.ndim > 1 else ():
                weight, gradient, update = (a.reshape(rows, -1) for a in (p, g, s))
                norms = np.linalg.norm(weight, axis=1)
                cosine = abs(np.einsum("ij,ij->i", weight, gradient)) / (norms * np.linalg.norm(gradient, axis=1))
                if cosine.max() < 0.1 / math.sqrt(weight.shape[1]):
                    along = np.einsum("ij,ij->i", weight, update) / norms**2
                    np.multiply(weight, along[:, None], out=x.reshape(rows, -1))
                    np.subtract(s, x, out=s)
                    decay = 0.1 * decay
                    break
            np.multiply(p, 1 - h["lr"] * decay, out=p)
            np.multiply(s, h["lr"], out=s)
            np.subtract(p, s, out=p)

    def adam_mini(self, gradients: list[Array]) -> None:
        h, bias1, root2 = self.h, 1 - self.h["beta1"]**self.t, math.sqrt(1 - self.h["beta2"]**self.t)
        for p, g, m, v, (s, _) in zip(self.arrays, gradients, *self.states, self.means, self.scratch, strict=True):
            if p.ndim > 1:
                rows = g.reshape(len(g), -1)
                mean = np.einsum("ij,ij->i", rows, rows)[:, None] / rows.shape[1]
            else:
                mean = g * g
            v *= h["beta2"]
            v += (1 - h["beta2"]) * mean
            np.multiply(m, h["beta1"], out=m)
            np.multiply(g, 1 - h["beta1"], out=s)
            np.add(m, s, out=m)
            np.multiply(p, 1 - h["lr"] * h["weight_decay"], out=p)
            rate = h["lr"] / bias1 / (np.sqrt(v) / root2 + h["eps"])
            np.multiply(m, rate.reshape(len(p), *(1,) * (p.ndim - 1)) if p.ndim > 1 else rate, out=s)
            np.subtract(p, s, out=p)

    def novograd(self, gradients: list[Array]) -> None:
        h = self.h
        for k, (p, g, m, (s, x)) in enumerate(zip(self.arrays, gradients, *self.states, self.scratch, strict=True)):
            square = float(np.vdot(g, g))
            self.sizes[k] = h["beta2"] * self.sizes[k] + (1 - h["beta2"]) * square if self.t > 1 else square
            np.divide(g, math.sqrt(self.sizes[k]) + h["eps"], out=s)
            np.multiply(p, h["weight_decay"], out=x)
            np.add(s, x, out=s)
            np.multiply(m, h["beta1"], out=m)
            np.add(m, s, out=m)
            np.multiply(m, h["lr"], out=s)
            np.subtract(p, s, out=p)

    def stable_adamw(self, gradients: list[Array]) -> None:
        h, bias2 = self.h, 1 - self.h["beta2"]**self.t
        for p, g, m, v, (s, _) in zip(self.arrays, gradients, *self.states, self.scratch, strict=True):
            self.moments(g, m, v, s)
            np.divide(v, bias2, out=s)
            np.maximum(s, h["eps"]**2, out=s)
            np.sqrt(s, out=s)
            np.divide(g, s, out=s)
            lr = h["lr"] / max(1.0, float(np.linalg.norm(s)) / math.sqrt(p.size))
            self.direction(m, v, s)
            np.multiply(s, lr, out=s)
            np.multiply(p, 1 - lr * h["weight_decay"], out=p)
            np.subtract(p, s, out=p)

    def cautious_adam(self, gradients: list[Array]) -> None:
        for p, g, m, v, (s, x) in zip(self.arrays, gradients, *self.states, self.scratch, strict=True):
            self.moments(g, m, v, s)
            self.direction(m, v, s)
            np.multiply(s, g, out=x)
            np.greater(x, 0, out=x)
            np.multiply(s, x, out=s)
            np.multiply(s, self.h["lr"] / max(float(x.mean()), 1e-3), out=s)
            np.subtract(p, s, out=p)

    def adafactor(self, gradients: list[Array]) -> None:
        eps, weight = self.h["eps"], self.t**-0.8
        lr = min(self.h["lr"], 1 / math.sqrt(self.t))
        for p, g, r, c, (s, _) in zip(self.arrays, gradients, *self.states, self.scratch, strict=True):
            np.multiply(g, g, out=s)
            if p.ndim > 1:
                r += weight * (s.mean(-1, keepdims=True) - r)
                c += weight * (s.mean(-2, keepdims=True) - c)
                np.multiply(r / np.maximum(r.mean(-2, keepdims=True), eps), c, out=s)
            else:
                r += weight * (s - r)
                np.copyto(s, r)
            np.maximum(s, eps * eps, out=s)
            np.sqrt(s, out=s)
            np.divide(g, s, out=s)
            root = math.sqrt(p.size)
            clipped = max(1.0, float(np.linalg.norm(s)) / root)
            np.multiply(s, max(1e-3, float(np.linalg.norm(p)) / root) * lr / clipped, out=s)
            np.subtract(p, s, out=p)

    def add(self, x: Array, keep: float, g: Array, weight: float, s: Array) -> None:
        np.multiply(x, keep, out=x)
        np.multiply(g, weight, out=s)
        np.add(x, s, out=x)

    def descend(self, p: Array, m: Array, v: Array, rate: float, eps: float, s: Array) -> None:
        np.sqrt(v, out=s)
        np.add(s, eps, out=s)
        np.divide(m, s, out=s)
        np.multiply(s, rate, out=s)
        np.subtract(p, s, out=p)

    def prodigy(self, gradients: list[Array]) -> None:
        h, d, beta3 = self.h, self.d, math.sqrt(self.h["beta2"])
        rate, gain = d * h["lr"], d / h["d0"] * d * h["lr"]
        size = 0.0
        self.numerator *= beta3
        for p, g, a, p0, m, v, (s, x) in zip(self.arrays, gradients, *self.states, self.scratch, strict=True):
            if self.t == 1:
                np.copyto(p0, p)
            np.subtract(p0, p, out=s)
            self.numerator += gain * float(np.vdot(g, s))
            self.add(m, h["beta1"], g, d * (1 - h["beta1"]), s)
            np.multiply(g, g, out=x)
            self.add(v, h["beta2"], x, d * d * (1 - h["beta2"]), s)
            self.add(a, beta3, g, gain, s)
            np.abs(a, out=s)
            size += float(s.sum())
        found = self.numerator / size
        self.d = max(self.d, found)
        for p, m, v, (s, _) in zip(self.arrays, *self.states[2:], self.scratch, strict=True):
            self.descend(p, m, v, rate, self.d * h["eps"], s)

    def dadapt_adam(self, gradients: list[Array]) -> None:
        h, beta3 = self.h, math.sqrt(self.h["beta2"])
        rate, size, found = self.d * h["lr"], 0.0, 0.0
        for p, g, a, m, v, (s, x) in zip(self.arrays, gradients, *self.states, self.scratch, strict=True):
            np.sqrt(v, out=s)
            np.add(s, h["eps"], out=s)
            np.divide(a, s, out=s)
            found += rate * float(np.vdot(g, s))
            self.add(m, h["beta1"], g, rate * (1 - h["beta1"]), s)
            np.multiply(g, g, out=x)
            self.add(v, h["beta2"], x, 1 - h["beta2"], s)
            self.add(a, beta3, g, rate * (1 - beta3), s)
            np.abs(a, out=s)
            size += float(s.sum())
            self.descend(p, m, v, 1.0, h["eps"], s)
        self.numerator = beta3 * self.numerator + (1 - beta3) * found
        self.d = max(self.d, self.numerator / ((1 - beta3) * size))

    def dog(self, gradients: list[Array]) -> None:
        self.go(gradients, list(range(len(self.arrays))), self.ways[0])

    def ldog(self, gradients: list[Array]) -> None:
        for k, way in enumerate(self.ways):
            self.go(gradients, [k], way)

    def go(self, gradients: list[Array], which: list[int], way: list[float]) -> None:
        """A step of tensors that have a distance together."""
        moved = squares = start = 0.0
        for k in which:
            p, p0, g, s = self.arrays[k], self.states[0][k], gradients[k], self.scratch[k][0]
            if self.t == 1:
                np.copyto(p0, p)
            np.subtract(p, p0, out=s)
            moved += float(np.vdot(s, s))
            start += float(np.vdot(p, p))
            squares += float(np.vdot(g, g))
        if self.t == 1:
            way[:] = self.h["reps_rel"] * (1 + math.sqrt(start)), squares + self.h["eps"]
        else:
            way[:] = max(way[0], math.sqrt(moved)), way[1] + squares
        for k in which:
            np.multiply(gradients[k], self.h["lr"] * way[0] / math.sqrt(way[1]), out=self.scratch[k][0])
            np.subtract(self.arrays[k], self.scratch[k][0], out=self.arrays[k])
