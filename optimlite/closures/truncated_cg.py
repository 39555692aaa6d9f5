"""Conjugate gradients for a Newton step within a trust region (Steihaug 1983, Toint 1981)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from .preconditioner import Apply
from .vectors import Vector
from .workspace import Workspace

Multiply = Callable[[Vector, Vector], bool]      # out = H v; False if no evaluations are left for it


class Step(NamedTuple):
    """What is known of a step p: how far the model falls, its length, and whether the region's edge has ended it."""

    predicted: float
    length: float
    cut: bool


class TruncatedCG:
    """Minimizes m(p) = g.p + p.Hp / 2 within |p| <= radius, until the residual g + Hp is `forcing` times as long as g.

    Ends early at the edge of the region, and along a direction without positive curvature goes there.  With a
    preconditioner H0, lengths are those of H0⁻¹, which their recurrence gives without multiplying by it (Conn, Gould &
    Toint 2000, 7.5.1).  r and hq are room that others use at other times.
    """

    def __init__(self, work: Workspace) -> None:
        self.work, self.space = work, work.space
        self.q = self.space.empty()
        self.z: Vector | None = None

    def solve(self, p: Vector, g: Vector, radius: Callable[[float], float], forcing: float, multiply: Multiply,
              h0: Apply | None) -> Step:
        """p = the step; `radius` is asked with the length of H0 g."""
        space, r, q, hq = self.space, self.work.spare, self.q, self.work.previous
        space.linear_combination(r, g, 1.0)
        z = r if h0 is None else self.z or space.empty()
        self.z = None if h0 is None else z

        def preconditioned() -> float:
            """z = H0 r; returns r.z."""
            if h0 is not None:
                h0(z, r)
            return space.gram(r, r, [z])[0][0]

        rz = first = preconditioned()
        edge = radius(math.sqrt(first)) ** 2
        space.linear_combination(q, z, -1.0)
        space.linear_combination(p, q, 0.0)
        pp, pq, qq, predicted = 0.0, 0.0, rz, 0.0        # products of p and q by H0⁻¹; how far the model falls
        for _ in range(2 * space.size):
            if not multiply(hq, q):
                break
            curvature = space.gram(q, q, [hq])[0][0]
            least = space.eps * math.sqrt(space.square(hq) * space.square(q))
            to_edge = (math.sqrt(max(0.0, pq * pq + qq * (edge - pp))) - pq) / qq
            step = min(to_edge, rz / curvature if curvature > least else math.inf)
            space.linear_combination(p, p, 1.0, [q], [step])
            predicted += step * (rz - 0.5 * step * curvature)
            pp += step * (2.0 * pq + step * qq)
            if step == to_edge:
                return Step(predicted, math.sqrt(edge), True)
            space.linear_combination(r, r, 1.0, [hq], [step])
            rz, before = preconditioned(), rz
            if not rz > forcing * forcing * first:
                break
            beta = rz / before
            space.linear_combination(q, q, beta, [z], [-1.0])
            pq, qq = beta * (pq + step * qq), rz + beta * beta * qq
        if pp == 0.0 and qq > 0.0:               # nothing is known of the curvature: the steepest descent, to the edge
            step = math.sqrt(edge / qq)
            space.linear_combination(p, q, step)
            return Step(step * rz, math.sqrt(edge), True)
        return Step(predicted, math.sqrt(pp), False)
