"""The linear model r + J p of the residuals where J is two products, and its lowest point by conjugate gradients."""

from __future__ import annotations

import math

import numpy as np

from ..result import Stop
from .box import Box
from .jacobian import Products
from .pairs import Gathered, Pair, inverse
from .robust_losses import dot
from .step import Step

Array = np.ndarray
PAUSE = 0.5                                      # how little the k iterations to come may bring at the first pause,
FINER = 0.3                                      # in parts of the decrease so far, and at each later one
LONGEST = 100                                    # iterations between two pauses


class KrylovModel:
    """Conjugate gradients for J^T J p = -J^T r, from p = 0 (CGLS; Hestenes & Stiefel 1952), cut off where |D p| comes
    to the radius (Steihaug 1983, Toint 1981).  The model falls with each iteration, so that the iteration may end
    anywhere; it pauses for trials, and goes on with `finer`.

    The curvature along its directions preconditions the next model's.  Beside x and these pairs it keeps six vectors:
    the gradient, p, its direction and the model's steepest descent, of n elements, J p and J times the direction, of m.
    """

    sparing = True                               # a step is long only after many products

    def __init__(self, J: Products, rows: Array | None, r: Array, x: Array, D: Array, box: Box | None,
                 gtol: float, pairs: tuple[Pair, ...], history_size: int) -> None:
        self.J, self.rows, self.x, self.D, self.box = J, rows, x, D, box
        self.given, self.pairs = J.given, pairs
        self.history_size = history_size
        self.gtol = gtol                         # the largest element of the model's gradient that is small enough
        self.gradient = self.backward(r)
        self.begin()
        # rounding of r alone makes the model's gradient so uncertain
        self.floor = 10.0 * float(np.finfo(x.dtype).eps) * math.sqrt(self.gamma)

    def begin(self) -> None:
        self.free = np.ones(self.x.size, bool) if self.box is None else self.box.moving(self.x, self.gradient)
        self.p = np.zeros_like(self.x)
        self.kept: Step | None = None            # the step that was last returned
        self.pause, self.count, self.fallen = PAUSE, 0, 0.0
        self.gathered = Gathered(self.history_size)
        self.u = np.zeros(1, self.gradient.dtype)        # J p
        self.s = -self.gradient
        self.restart()

    def forward(self, v: Array) -> Array:
        product = self.J.forward(v)
        return product if self.rows is None else self.rows * product

    def backward(self, u: Array) -> Array:
        return self.J.backward(u if self.rows is None else self.rows * u).astype(u.dtype, copy=False)

    def restart(self) -> None:
        """The iteration begins from p, where u = J p (not r + J p: it could drown in r) and s is the descent."""
        self.d = self.conditioned(self.s)
        self.gamma = max(dot(self.s, self.d), 0.0)       # of rounding alone it might be less
        self.q: Array | None = None              # J d, once it was computed

    def steepest_descent(self, u: Array) -> Array:
        return np.asarray(-self.gradient - self.backward(u))

    def conditioned(self, s: Array) -> Array:
        z = inverse(self.pairs, np.where(self.free, s, 0), self.D)
        z[~self.free] = 0
        return z

    def learnt(self) -> tuple[Pair, ...]:
        """The pairs for the next model."""
        return self.gathered.after(self.pairs)

    # Steps -----------------------------------------------------------------------------------------------------------

    def step(self, radius: float) -> Step:
        if self.kept is not None:                # it was rejected: a shorter one, along the path of the iteration
            self.begin()
        return self.search(radius)

    def finer(self, radius: float) -> Step | None:
        """A step from the same place that is nearer to the model's lowest point, or None if there is none."""
        before = self.kept
        if before is None or not before.whole or math.sqrt(self.gamma) <= self.floor:
            return None
        if np.max(abs(self.s[self.free]), initial=0.0) <= self.gtol:
            return None
        self.pause *= FINER
        step = self.search(radius)
        return step if step.predicted > before.predicted else None

    def search(self, radius: float) -> Step:
        self.J.place()                           # a trial may have been elsewhere
        while True:
            beyond = self.iterate(radius)
            end = self.x + self.p
            if beyond:
                end += beyond * self.d
            if self.box is None or not self.box.stop(end, self.free):
                break
            self.p, beyond = end - self.x, 0.0
            self.u = self.forward(self.p)
            self.s = self.steepest_descent(self.u)
            self.restart()
            self.fallen = -dot(self.gradient, self.p) - 0.5 * dot(self.u, self.u)
        step = self.measured(end, beyond)
        if step.predicted <= 0.0 and self.kept is None and self.box is not None:
            step = self.steepest(self.box, radius)
        if not math.isfinite(step.length):
            raise Stop("a product with the Jacobian isn't finite", -1)
        self.kept = step
        return step

    def steepest(self, box: Box, radius: float) -> Step:
        """Along the projected steepest descent, where the box has turned a step upwards."""
        self.free = box.moving(self.x, self.gradient)
        d = np.where(self.free, -self.gradient, 0) / self.D**2
        q = self.forward(d)
        scaled = self.D * d
        reach = radius / max(math.sqrt(dot(scaled, scaled)), np.finfo(q.dtype).tiny)
        t = min(-dot(self.gradient, d) / max(dot(q, q), np.finfo(q.dtype).tiny), reach)
        while True:
            end = box.clip(self.x + t * d)
            self.p = end - self.x
            self.u = self.forward(self.p)
            step = self.measured(end, 0.0)._replace(whole=t < reach)
            if step.predicted > 0.0 or step.length == 0.0:
                self.gamma = 0.0                 # nothing finer from here
                return step
            t *= 0.25

    def iterate(self, radius: float) -> float:
        """Conjugate gradients until the pause, or the radius: what part of the direction then leads there."""
        for _ in range(LONGEST):
            if math.sqrt(self.gamma) <= self.floor:
                break
            if self.q is None:
                self.q = self.forward(self.d)
            curvature = dot(self.q, self.q)
            alpha = self.gamma / curvature if curvature > 0.0 else math.inf
            reach = self.reach(radius)
            if alpha >= reach:
                return reach if reach < math.inf else 0.0        # no curvature and no radius: nothing to go by
            self.p += alpha * self.d
            self.u = self.u + alpha * self.q
            self.q = None
            s = self.steepest_descent(self.u)
            self.gathered.add(alpha, self.d, self.s, s, self.gamma)
            self.s = s
            z = self.conditioned(self.s)
            before, self.gamma = self.gamma, max(dot(self.s, z), 0.0)
            z += self.gamma / before * self.d
            self.d = z
            gain, self.count = 0.5 * alpha * before, self.count + 1
            self.fallen += gain
            if gain * self.count <= self.pause * self.fallen:        # Nash & Sofer 1990
                break
        return 0.0

    def reach(self, radius: float) -> float:
        """How far along the direction the radius is."""
        if radius == math.inf:
            return math.inf
        p, d = self.D * self.p, self.D * self.d
        pp, pd, dd = dot(p, p), dot(p, d), dot(d, d)
        room = max(radius**2 - pp, 0.0)
        return room / (pd + math.sqrt(pd * pd + dd * room)) if room > 0.0 else 0.0

    def measured(self, end: Array, beyond: float) -> Step:
        p = end - self.x
        slope = dot(self.gradient, p)
        u = self.u + beyond * self.q if beyond and self.q is not None else self.u
        p *= self.D
        return Step(end, slope, -slope - 0.5 * dot(u, u), math.sqrt(dot(p, p)), not beyond)
