"""torch's own strong-Wolfe search, trial by trial, for L-BFGS to give torch's iterates."""

from __future__ import annotations

from operator import attrgetter

from .line_search import Ended, Found, Line, Phi, Trial, clipped, cubic_minimum, interval_exhausted


def torch_strong_wolfe(phi: Phi, loss: float, slope: float, step: float = 1.0, *, largest: float = 1.0,
                       tolerance_change: float = 1e-9, c1: float = 1e-4, c2: float = 0.9, max_evals: int = 25) -> Found:
    """The search of torch.optim.LBFGS (after minFunc): `largest` is max |d|, by which `tolerance_change` is measured.

    It departs from torch only where a loss or slope isn't finite (there torch's iterates become NaN; here the trial is
    infinitely high and the bracket is halved).
    """
    start = Trial(0.0, loss, slope)
    line = Line(phi, start, step, max_evals, lambda trial: False, may_repeat=True)

    def high(trial: Trial) -> bool:
        return not trial.loss <= loss + c1 * trial.step * slope

    def flat(trial: Trial) -> bool:
        return abs(trial.slope) <= -c2 * slope

    def bracket() -> list[Trial]:
        before, trial, turn = start, line(step), 0
        while True:
            if line.evaluations >= max_evals:    # torch doesn't look at the last trial's conditions either
                raise Ended(min(start, trial, key=attrgetter("loss")))
            if high(trial) or (turn > 1 and trial.loss >= before.loss):
                return [before, trial]
            if flat(trial):
                raise Ended(trial)
            if trial.slope >= 0.0:
                return [before, trial]
            nearest, farthest = trial.step + 0.01 * (trial.step - before.step), 10.0 * trial.step
            t = clipped(cubic_minimum(*ordered(before, trial)), nearest, farthest, 0.5 * (nearest + farthest))
            before, trial = trial, line(t)
            turn += 1

    def zoom(ends: list[Trial]) -> None:
        stuck = False
        low = 0 if ends[0].loss <= ends[1].loss else 1
        try:
            while abs(ends[1].step - ends[0].step) * largest >= tolerance_change and not interval_exhausted(*ends):
                left, right = min(ends[0].step, ends[1].step), max(ends[0].step, ends[1].step)
                t = clipped(cubic_minimum(*ordered(*ends)), left, right, 0.5 * (left + right))
                edge = 0.1 * (right - left)
                near = min(right - t, t - left) < edge
                if near and (stuck or t >= right or t <= left):
                    t = right - edge if abs(t - right) < abs(t - left) else left + edge
                    near = False
                stuck = near
                trial = line(t)
                if high(trial) or trial.loss >= ends[low].loss:
                    ends[1 - low] = trial
                    low = 0 if ends[0].loss <= ends[1].loss else 1
                    continue
                if flat(trial):
                    raise Ended(trial)
                if trial.slope * (ends[1 - low].step - ends[low].step) >= 0.0:
                    ends[1 - low] = ends[low]
                ends[low] = trial
        except Ended as end:
            raise Ended(end.trial or ends[low]) from None
        raise Ended(ends[low])

    return line.search(lambda: zoom(bracket()))


def ordered(a: Trial, b: Trial) -> tuple[Trial, Trial]:
    return (a, b) if a.step <= b.step else (b, a)
