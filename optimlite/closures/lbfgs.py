"""L-BFGS: quasi-Newton steps from the last changes of the gradient, with a line search and, optionally, bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np

from .. import checks
from ..engine.method import Group
from ..engine.state import StateMap
from ..native.vectors import two_loops
from .closure_optimizer import LIMITS, ClosureOptimizer
from .line import LinePosition
from .line_search import SEARCHES, Found, Phi, strong_wolfe
from .method import Direction, Method, Search
from .preconditioner import Apply
from .progress import SCALARS
from .result import Result
from .search_choice import search, search_options
from .torch_wolfe import torch_strong_wolfe
from .vectors import Box, GradientProducts, Vector, VectorSpace
from .workspace import StateNames, Workspace

# Within bounds the slope jumps where a variable meets its bound, and a search for a point where it is nearly 0 would
# close in on such a kink.  It is enough that the slope has risen, as for "hager_zhang".
weak_wolfe = partial(strong_wolfe, weak=True)
BOX_SEARCHES: dict[str, Search] = {**SEARCHES, "strong_wolfe": weak_wolfe, "nocedal_wright": weak_wolfe}
NEAR = 0.1                       # part of a trial step: a bound is near if it is met before that
OPEN_SEARCHES: dict[str, Search] = {**SEARCHES, "strong_wolfe": torch_strong_wolfe}


def history_format(name: str, value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value == "bfloat16"):
        return value
    raise ValueError(f"`{name}` must be None (the parameters' type) or 'bfloat16', got {checks.shown(value)}")


class History:
    """The last pairs (s, y) and their products, so that a direction takes two passes over them.

    A third pass is needed only if the new pair is rejected after the oldest was evicted for it.

    -H g = -gamma g + sum a_i s_i + b_i y_i, where the two-loop recursion runs on the products alone (the compact
    representation of Byrd, Nocedal & Schnabel 1994).
    """

    def __init__(self, space: VectorSpace) -> None:
        self.space = space
        self.pairs: list[tuple[Vector, Vector]] = []     # by slot
        self.order: list[int] = []                       # slots from the oldest pair to the newest
        self.sy, self.yy = np.zeros((0, 0)), np.zeros((0, 0))
        self.taken = 0                                   # how many pairs there ever were: numbers them in the state
        self.halves = False                              # whether pairs are stored in 16 bits

    def spare(self, size: int) -> int:
        """A slot for the next pair: one more than `size`, so that a pair can be refused after it was computed."""
        while len(self.order) > size:
            self.order.pop(0)
        if unused := set(range(len(self.pairs))).difference(self.order):
            return min(unused)
        n = len(self.pairs)
        if n + 2 > len(self.sy):
            self.sy, self.yy = (np.pad(a, (0, max(8, n))) for a in (self.sy, self.yy))
        made = self.space.rows(4 if n < size else 2, self.halves)
        self.pairs += zip(made[::2], made[1::2], strict=True)
        return n

    def store(self, halves: bool) -> None:
        """Begins anew where pairs are to be stored otherwise."""
        if halves != self.halves:
            self.halves, self.pairs, self.order = halves, [], []

    def rows(self) -> list[Vector]:
        return rows([self.pairs[slot] for slot in self.order])

    def products(self, vector: Vector) -> list[float]:
        """The products of a vector with every s, and with every y."""
        return self.space.gram(vector, vector, self.rows())[0] if self.order else []

    def enter(self, order: list[int], slot: int, products: list[float]) -> None:
        n = len(order)
        for k, other in enumerate(order):
            self.sy[other, slot] = products[k]
            self.yy[other, slot] = self.yy[slot, other] = products[n + k]

    def direction(self, out: Vector, g: Vector, products: list[float]) -> tuple[float, float]:
        """out = -H g, given the products of g; returns g.out and max |out|."""
        if not self.order:
            return self.space.linear_combination(out, g, -1.0)
        last = self.order[-1]
        gamma = float(self.sy[last, last] / self.yy[last, last])
        n = len(self.order)
        a, b = two_loops(self.sy, self.yy, products[:n], products[n:], self.order, gamma)
        return self.space.linear_combination(out, g, -gamma, self.rows(), a + b)

    def preconditioned(self, out: Vector, spare: Vector, g: Vector, products: list[float], h0: Apply,
                       ) -> tuple[float, float]:
        """The same with H0 in the place of gamma, which takes one more pass over half of the history."""
        n, sy = len(self.order), self.sy[np.ix_(self.order, self.order)].tolist()
        s, y = ([self.pairs[slot][side] for slot in self.order] for side in (0, 1))
        a, b = [0.0] * n, [0.0] * n
        for i in range(n - 1, -1, -1):           # q = -g - sum_j b_j y_j
            b[i] = (-products[i] - sum(sy[i][j] * b[j] for j in range(i + 1, n))) / sy[i][i]
        self.space.linear_combination(spare, g, -1.0, y, [-value for value in b])
        h0(out, spare)
        yr = self.space.gram(out, out, y)[0] if n else []
        for i in range(n):                       # r = H0 q + sum_j a_j s_j
            a[i] = b[i] - (yr[i] + sum(a[j] * sy[j][i] for j in range(i))) / sy[i][i]
        largest = self.space.linear_combination(out, out, 1.0, s, a)[1]
        return self.space.gram(out, out, [g])[0][0], largest


def rows(pairs: list[tuple[Vector, Vector]]) -> list[Vector]:
    return [pair[side] for side in (0, 1) for pair in pairs]


def turns_uphill(slope: float, met: list[np.ndarray], each: Iterable[tuple[np.ndarray, ...]]) -> bool:
    """Whether the slope is >= 0 as soon as some of the elements have met their bound, in the order in which they do."""
    rises, times = [], []
    for where, (g, d, way) in zip(met, each, strict=True):
        rises.append(np.float64(g[where]) * d[where])
        times.append(way[where] / d[where])
    order = np.argsort(np.concatenate(times), kind="stable")
    return bool((slope - np.cumsum(np.concatenate(rises)[order]) >= 0.0).any())


def leaves(*vectors: Vector) -> Iterable[tuple[np.ndarray, ...]]:
    return zip(*(vector.arrays for vector in vectors), strict=True)


def put(vector: Vector, where: list[np.ndarray], values: list[Any]) -> None:
    for array, chosen, value in zip(vector.arrays, where, values, strict=True):
        np.copyto(array, value, where=chosen, casting="same_kind")


class LBFGSMethod(Method):
    """d = -H g, with H from a history of pairs."""

    keeps_steps = True

    def __init__(self, work: Workspace) -> None:
        super().__init__(work)
        self.history = History(self.space)

    @property
    def follows_torch(self) -> bool:
        return self.options["line_search_fn"] in (None, "strong_wolfe") and self.work.box is None

    @staticmethod
    def searches(bounded: bool) -> Mapping[str, Search]:
        return BOX_SEARCHES if bounded else OPEN_SEARCHES

    @property
    def within_steps(self) -> bool:
        return bool(self.options["same_batch"])

    def settle(self, away: bool) -> None:
        if self.within_steps and self.work.pending:      # both of its gradients are this step's, and here yet
            self.renew()

    def evaluations(self, max_iter: int) -> int:
        return max_iter * 5 // 4 + self.within_steps

    def direction(self, seen: GradientProducts, position: LinePosition) -> Direction:
        work, history = self.work, self.history
        history.store(self.options["history_dtype"] == "bfloat16")
        products = (self.renew() if work.pending else None) or history.products(work.descent)
        trial = self.first_trial()
        slope, largest = self.newton(products)
        if work.box is not None:
            slope, largest = self.within(work.box, position, trial)
        return Direction(slope, largest, trial)

    def newton(self, products: list[float]) -> tuple[float, float]:
        """d = -H times the gradient that `descent` has; returns its slope and max |d|."""
        work = self.work
        if self.h0 is None:
            return self.history.direction(work.d, work.descent, products)
        return self.history.preconditioned(work.d, work.spare, work.descent, products, self.h0)

    def within(self, box: Box, position: LinePosition, trial: float) -> tuple[float, float]:
        """Turns d inward; returns its slope and max |d|.

        Elements that are next to a bound can be what makes d descend.  Once they have met it, d leads uphill, and
        search after search would end there.  So they go to their bound by themselves, and d is made for the others.
        """
        work, space, near = self.work, self.space, NEAR * trial
        found = space.project_direction(work.d, work.whole, box)
        if not self.history.order or not found[0] < 0.0:
            return found
        position.move(near)
        met = [((x <= low) & (d < 0)) | ((x >= high) & (d > 0)) for x, d, low, high in leaves(space.x, work.d, *box)]
        if not any(where.any() for where in met):
            return found
        space.displacement(work.spare, work.x)
        if not turns_uphill(found[0], met, leaves(work.whole, work.d, work.spare)):
            return found
        ways = [np.where(way * f < 0, way, 0) / near for way, f in leaves(work.spare, work.descent)]
        position.back()
        put(work.descent, met, [0] * len(met))
        self.newton(self.history.products(work.descent))
        put(work.d, met, ways)
        return space.project_direction(work.d, work.whole, box)

    def first_trial(self) -> float:
        """Without a history, the step by which the last one would have had this direction's length."""
        if self.follows_torch:
            return self.first_step() if self.work.scalars["n_iter"] == 1 else float(self.options["lr"])
        if self.history.order:
            return float(self.options["lr"])
        return float(self.work.scalars["t"]) or self.first_step()

    def renew(self) -> list[float] | None:
        """Takes a good newest pair into the history; returns the gradient's products, where it knows them."""
        work, history, size = self.work, self.history, self.options["history_size"]
        slot, step = history.spare(size), float(work.scalars["t"])
        order = [*history.order, slot][-size:]
        (s, y), d = history.pairs[slot], work.d
        if step == 1.0 and not history.halves:   # d becomes s, and the spare vector the next d
            s, d = d, s
        pairs = [*(history.pairs[other] for other in order[:-1]), (s, y)]
        ss, mine, others = self.space.add_pair(s, y, step, work.d, work.g, work.previous, work.descent, rows(pairs),
                                               work.box is not None)
        sy, yy = others[len(order) - 1], others[-1]
        # torch's threshold is absolute; ours asks for an angle that the type can resolve
        absolute = self.follows_torch and not self.within_steps
        if not (sy > 1e-10 if absolute else sy > self.space.eps * math.sqrt(max(0.0, ss * yy)) > 0.0):
            # The history may be empty: then the next step is as long as this one was.
            scalar, length = work.scalars["t"], np.sqrt(ss) / (self.space.norm(work.descent) or 1.0)
            scalar[...], work.pending = length, False
            # The others' products are known, unless one pair wasn't looked at.
            return [*mine[:len(order) - 1], *mine[len(order):-1]] if len(order) > len(history.order) else None
        history.enter(order, slot, others)
        # Nothing is called in between: an interrupt finds a pair with its products or none, and then it is made again.
        history.pairs[slot], history.order, work.d, work.pending = (s, y), order, d, False
        history.taken += 1
        return mine

    def restart(self) -> bool:
        had = bool(self.history.order) and not self.follows_torch
        if had:                                  # the scale of the newest pair's curvature outlives it
            last = self.history.order[-1]
            self.work.scalars["t"][...] = self.history.sy[last, last] / self.history.yy[last, last]
            self.history.order.clear()
        return had

    def search(self, phi: Phi, loss: float, slope: float, step: float, largest: float, max_evals: int) -> Found:
        if self.options["line_search_fn"] == "strong_wolfe" and self.follows_torch:
            given = self.options["search_options"] or {}
            most = min(max_evals, int(given.get("max_evals", max_evals)))
            return torch_strong_wolfe(phi, loss, slope, step, **{**given, "largest": largest, "max_evals": most})
        return super().search(phi, loss, slope, step, largest, max_evals)

    def vectors(self) -> dict[str, Vector]:
        history, found = self.history, super().vectors()
        for number, slot in enumerate(history.order, history.taken - len(history.order)):
            found[f"s_{number}"], found[f"y_{number}"] = history.pairs[slot]
        return found

    def pairs(self) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
        """All (s, y) as arrays, the oldest first; the newest may not be in the history yet."""
        work, space = self.work, self.space
        found = [(space.real(s), space.real(y)) for s, y in (self.history.pairs[slot] for slot in self.history.order)]
        made = [(s.arrays, y.arrays) for s, y in found]
        if work.pending:
            t, rest = float(work.scalars["t"]), work.box is not None
            s = [t * d for d in work.d.arrays]
            made.append((s, [np.where(rest & (a == 0), 0, g - h) for a, g, h
                             in zip(s, work.g.arrays, work.previous.arrays, strict=True)]))
        return made

    def adopt(self, names: Iterable[str], states: StateMap) -> None:
        super().adopt(names, states)
        history = self.history
        numbers = sorted(int(name[2:]) for name in names if name.startswith("s_"))
        for slot, number in enumerate(numbers):
            s, y = (self.work.adopt(f"{side}_{number}", states, halves=True) for side in "sy")
            history.pairs.append((s, y))
            history.order.append(slot)
            history.taken = number + 1
        history.sy, history.yy = np.zeros((2, len(numbers), len(numbers)))
        history.halves = bool(history.pairs) and history.pairs[0][0].halves
        for slot, (_, y) in enumerate(history.pairs):    # the same bits as when each pair was new
            y = history.space.real(y)
            history.enter(history.order, slot, history.space.gram(y, y, history.rows())[1])


class LBFGS(ClosureOptimizer):
    """Limited-memory BFGS (Liu & Nocedal 1989), with torch's surface and, with torch's options, torch's iterates.

        d = -H g,  H from the last `history_size` pairs s = x' - x, y = g' - g         x = x + t * d

    `step(closure)` runs `max_iter` iterations.  `line_search_fn`: None takes t = lr (lr * min(1, 1 / sum|g|) at first);
    "strong_wolfe" is torch's search; "nocedal_wright"; "hager_zhang", which suits float32 best; "backtracking"; or any
    function of `optimlite.line_search`.  `max_eval` is never exceeded; None is torch's max_iter * 5 // 4, after which a
    search that has begun may end.  Stops at max|g| <= `tolerance_grad`, max|t d| <= `tolerance_change`, |loss change| <
    `tolerance_change`, a slope above -`tolerance_change`, a decrease of at most `tolerance_loss` of the loss (of 1 for
    a smaller one; None: no such test) where the gradient hasn't grown, or, with our own searches, where 20 evaluations
    brought no lower loss.

    `bounds`: a pair (low, high), a dict of pairs by name, or a list of pairs; directions are then projected onto the
    box (two-metric projection, Bertsekas 1982), and the parameters are moved into it first.
    `l1`: weights w >= 0 of sum w |x|, which is added to the loss (OWL-QN, Andrew & Gao 2007): a number, or numbers or
    arrays, one for each parameter (a list or a dict by name).  Many x become 0, exactly.  Steps stay in an orthant, as
    in bounds, and `tolerance_grad` is for the pseudo-gradient, g + w sign(x), at x = 0 what of g exceeds w.
    `h0`: an approximate inverse Hessian to begin with: positive numbers or arrays, one for each parameter (a list or a
    dict by name), or a function of a list of arrays that returns H0 times them, called in each iteration.
    `inner(u, v)`: the inner product of two lists of arrays, of which the gradients are the representers.
    `history_dtype`: "bfloat16" stores the history in 16 bits: half the memory (of float32), with float32's range, and
    less to read for a direction.  Pairs are used as they are stored.
    `same_batch`: for closures of mini-batches, another one in each step.  Pairs are made within a step alone, so that
    the gradients of a y belong to one batch; without a line search, that takes one evaluation more, at the step's end.
    `comm`: a communicator of mpi4py, whose ranks have different unknowns: each gives its own parameters, and its part
    of the loss, and all step together; see docs/mpi.md.
    `result` tells how a step went.

    Groups share everything but `lr`, whose ratios scale the variables.  float32 and float64 parameters may be mixed;
    sums are in double.  The memory is 2 * (history_size + 1) + 5 vectors, taken as the history grows.
    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the first trial step along a direction.    max_iter, max_eval: limits of one `step(closure)`.
    tolerance_grad, tolerance_change, tolerance_loss, history_size, line_search_fn: see above.
    search_options: arguments of the line search, as {"c1": 1e-4, "c2": 0.9}.    maximize: ascends.
    bounds, l1, h0, inner, comm: see above.    callback: called after each iteration; True or StopIteration stops.

    State: `n_iter`, `func_evals`, `t`, what tells that a run is done (`loss`, `best_loss`, `loss_scale`, `idle`),
    `direction`, `prev_grad`, and the pairs `s_0`, `y_0`, `s_1`, ….
    Raises ValueError for hyper-parameters out of range, or that differ between groups.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.LBFGS([w], line_search_fn="strong_wolfe")
        >>> opt.step(lambda: ((w - 3) @ (w - 3), [2 * (w - 3)]))
        np.float64(29.0)
        >>> opt.result.converged, w.round(6)
        (True, array([3., 3.]))
    """

    method_class = LBFGSMethod
    checks = {"lr": checks.nonnegative, **LIMITS, "history_size": checks.count,
              "line_search_fn": checks.optional(search), "search_options": search_options,
              "history_dtype": history_format, "same_batch": checks.flag, "maximize": checks.flag}
    scalars = {"n_iter": 0, "func_evals": 0, "t": 0.0}
    later_scalars = SCALARS
    half_states = StateNames()
    state_names: ClassVar[Any] = StateNames(*scalars, *later_scalars, "direction", "prev_grad")

    def __init__(self, params: Any, lr: float = 1, max_iter: int = 20, max_eval: int | None = None,
                 tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
                 line_search_fn: str | Callable[..., Found] | None = None, *, tolerance_loss: float | None = None,
                 search_options: Mapping[str, float] | None = None, history_dtype: str | None = None,
                 same_batch: bool = False, maximize: bool = False, bounds: Any = None, l1: Any = None,
                 h0: Any = None, inner: Callable[..., Any] | None = None,
                 callback: Callable[[Result], Any] | None = None, comm: Any = None) -> None:
        super().__init__(params, dict(
            lr=lr, max_iter=max_iter, max_eval=max_eval, tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change, tolerance_loss=tolerance_loss, history_size=history_size,
            line_search_fn=line_search_fn, search_options=search_options,
            history_dtype=history_dtype, same_batch=same_batch, maximize=maximize), bounds, callback, h0, inner, l1,
            comm)

    @property
    def l1(self) -> Any:
        return self._l1

    @l1.setter
    def l1(self, l1: Any) -> None:
        self._l1 = self._weights(l1)

    def check_group(self, group: Group) -> None:
        super().check_group(group)
        if group["history_dtype"] and any(parameter.dtype.kind == "c" for parameter in group["params"]):
            raise ValueError(f"`history_dtype` can't be had with complex parameters, got {group['history_dtype']!r}; "
                             f"leave it out")
