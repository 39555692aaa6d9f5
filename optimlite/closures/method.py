"""What a method gives to the loop: directions and first trials.  It knows its vectors, no loop and no Optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ..engine.state import StateMap
from .line import LinePosition
from .line_search import SEARCHES, Ended, Found, Phi
from .preconditioner import Apply
from .vectors import GradientProducts, Vector
from .workspace import Workspace

MAX_SEARCH_EVALS = 40            # of one line search; a search that needs more has failed for another reason
MAX_UNRESOLVED = 8               # of them, those that tell nothing of the loss but its rounding
Search = Callable[..., Found]


def ending(phi: Phi, loss: float, eps: float) -> Phi:
    """phi, which ends the search after MAX_UNRESOLVED trials whose losses differ from the start's by rounding alone."""
    left = MAX_UNRESOLVED

    def evaluate(step: float) -> tuple[float, float]:
        nonlocal left
        if left == 0:
            raise Ended
        found = phi(step)
        left -= abs(found[0] - loss) <= 4.0 * eps * abs(loss)
        return found

    return evaluate


class Direction(NamedTuple):
    """A direction d, which lies in the workspace: g.d, max |d|, and the first trial step along it."""

    slope: float
    largest: float
    trial: float


class Method:
    """How descent directions are made from the gradients seen: the base of L-BFGS and conjugate gradients."""

    keeps_steps = False                          # within a box, `d` becomes the step that bounds have cut short

    def __init__(self, work: Workspace) -> None:
        self.work, self.space = work, work.space
        self.options: Mapping[str, Any] = {}     # the hyper-parameters of the step at hand
        self.h0: Apply | None = None             # what multiplies by the user's inverse Hessian

    # What a subclass gives -------------------------------------------------------------------------------------------

    def direction(self, seen: GradientProducts, position: LinePosition) -> Direction:
        """Fills `work.d`; may already make the first step along it, which `position` then knows."""
        raise NotImplementedError

    def restart(self) -> bool:
        """Forgets what the directions are made from; False if there was nothing to forget."""
        raise NotImplementedError

    def settle(self, away: bool) -> None:
        """Called at the end of a step, `away` if the parameters have left the point for the line."""

    def evaluations(self, max_iter: int) -> int:
        """`max_eval` where it isn't given."""
        raise NotImplementedError

    def read_gradient(self, out: Vector, previous: Vector) -> GradientProducts:
        """Reads the gradients into `out`, and what the method has to know of them."""
        return self.space.read_gradient(out, self.work.d)

    @property
    def within_steps(self) -> bool:
        """Whether each step's closure is another function, so that gradients of two steps don't belong together."""
        return False

    @property
    def follows_torch(self) -> bool:
        """Whether the options are torch's, which decide by torch's rules then."""
        return False

    @staticmethod
    def searches(bounded: bool) -> Mapping[str, Search]:
        """The line searches by the names that `line_search_fn` may have, within bounds or without."""
        return SEARCHES

    # What is the same for both ---------------------------------------------------------------------------------------

    def search(self, phi: Phi, loss: float, slope: float, step: float, largest: float, max_evals: int) -> Found:
        chosen = self.options["line_search_fn"]
        if isinstance(chosen, str):
            search, phi = self.searches(self.work.box is not None)[chosen], ending(phi, loss, self.space.eps)
        else:
            search = chosen
        given = self.options["search_options"] or {}
        most = min(max_evals, int(given.get("max_evals", MAX_SEARCH_EVALS)))
        found: Found = search(phi, loss, slope, step, **{**given, "max_evals": most})
        return found

    def first_step(self) -> float:
        """The first trial, where nothing is known of the curvature: torch's, and else a step of length `lr`, whatever
        the units of the loss."""
        g, lr = self.work.descent, float(self.options["lr"])
        if self.h0 is not None:                  # which has the scale
            return lr
        if self.follows_torch:
            return min(1.0, 1.0 / self.space.sum_abs(g)) * lr
        return lr / (self.space.norm(g) or 1.0)

    def vectors(self) -> dict[str, Vector]:
        """What of the workspace is state, by name."""
        return {"direction": self.work.d, "prev_grad": self.work.previous} if self.work.pending else {}

    def adopt(self, names: Iterable[str], states: StateMap) -> None:
        """Takes the vectors from the state into the workspace."""
        if self.work.pending:
            self.work.d, self.work.previous = (self.work.adopt(key, states) for key in ("direction", "prev_grad"))
