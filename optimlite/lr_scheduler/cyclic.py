"""The two schedules that cycle the learning rate against the momentum."""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..checks import at_least, fraction, interval, nonnegative, number, one_of, positive
from ..engine.optimizer import Optimizer
from .annealing import blend, half_cosine
from .arguments import Hyperparameter, PerGroup, function, power, result_of
from .kinds import Overwriting
from .state_dict import callable_state, check_callable_state, load_callable_state

Values = float | Sequence[float]
Level = tuple[float, bool]


class _CycledLR(Overwriting):
    """A schedule between values of its own, with a momentum that goes the other way."""

    ignores_initial = True
    _latest: tuple[int, Any] = (-1, None)

    def _cycle_momentum(self, optimizer: Optimizer, key: str, base_momentum: Values, max_momentum: Values) -> None:
        if key != "lr":
            raise ValueError(f"`cycle_momentum` must be False where `key` isn't 'lr', got `key`={key!r}")
        name = "betas[0]" if "betas" in optimizer.defaults else "momentum"
        if name.partition("[")[0] not in optimizer.defaults:
            raise ValueError(f"`cycle_momentum` must be False for {type(optimizer).__name__}, which has neither "
                             "`momentum` nor `betas`")
        check = fraction if name == "betas[0]" else optimizer.checks.get("momentum", number)
        self.base_momentum: PerGroup[float] = PerGroup("base_momentum", base_momentum, optimizer, check)
        self.max_momentum: PerGroup[float] = PerGroup("max_momentum", max_momentum, optimizer, check)
        self._momentum = Hyperparameter(name, optimizer)
        if not all(map(self._momentum.get, optimizer.param_groups)):
            warnings.warn(f"{type(self).__name__} turns on the {name} of {type(optimizer).__name__}, which was 0; "
                          "pass cycle_momentum=False to leave it off", UserWarning, stacklevel=4)

    def _cycle(self, t: int) -> Any:
        """Where count `t` lies in the cycle, which is the same for all groups, and for rate and momentum."""
        raise NotImplementedError

    def _place(self, t: int) -> Any:
        if self._latest[0] != t:
            self._latest = (t, self._cycle(t))
        return self._latest[1]

    def _momentum_at(self, t: int, i: int) -> float | None:
        return None if self._momentum is None else self._cycled_momentum(t, i)

    def _cycled_momentum(self, t: int, i: int) -> float:
        raise NotImplementedError


class CyclicLR(_CycledLR):
    """A triangle wave from `base_lr` to `max_lr` and back, with a height that may shrink.

        c = 1 + t // (up + down),   x = t % (up + down)
        height = x / up   while x <= up,   (up + down - x) / down   after
        value(t) = base_lr + (max_lr - base_lr) * height * scale

    optimizer: the optimizer whose groups are scheduled. Their initial values play no part.
    base_lr, max_lr: the ends of the wave; a number, or a list with one per group.
    step_size_up, step_size_down: the counts of a rise, and of a fall, by default the same.
    mode, gamma: the scale is 1 for "triangular", 2 ** (1 - c) for "triangular2", gamma ** t for "exp_range".
    scale_fn, scale_mode: a scale of your own, whatever `mode` says; of the cycle c or, in "iterations", of t.
    cycle_momentum: whether the momentum (or `betas[0]`) goes from `max_momentum` down to `base_momentum` and back, both
        within the limits of the optimizer. A momentum of 0 is turned on, with a warning.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> CyclicLR(opt, base_lr=0.0, max_lr=1.0, step_size_up=4).at(3)
        [0.75]

    Powers are the C library's: the same bits on one machine only. Source: Smith 2017, torch.optim.lr_scheduler.
    """

    def __init__(self, optimizer: Optimizer, base_lr: Values, max_lr: Values, step_size_up: int = 2000,
                 step_size_down: int | None = None, mode: str = "triangular", gamma: float = 1.0,
                 scale_fn: Callable[[float], float] | None = None, scale_mode: str = "cycle",
                 cycle_momentum: bool = True, base_momentum: Values = 0.8, max_momentum: Values = 0.9,
                 last_epoch: int = -1, *, key: str = "lr") -> None:
        self.base_lr: PerGroup[float] = PerGroup("base_lr", base_lr, optimizer, nonnegative)
        self.max_lr: PerGroup[float] = PerGroup("max_lr", max_lr, optimizer, nonnegative)
        self.step_size_up: int = at_least(1)("step_size_up", step_size_up)
        if step_size_down is None:
            step_size_down = step_size_up
        self.step_size_down: int = at_least(1)("step_size_down", step_size_down)
        self.gamma: float = nonnegative("gamma", gamma)
        self.scale_fn = None if scale_fn is None else function("scale_fn", scale_fn)
        # As in torch, a function of the user's overrides the mode, whatever that says.
        self.mode: str = one_of("triangular", "triangular2", "exp_range")("mode", mode) if scale_fn is None else mode
        self.scale_mode: str = one_of("cycle", "iterations")("scale_mode", scale_mode)
        if cycle_momentum:
            self._cycle_momentum(optimizer, key, base_momentum, max_momentum)
        super().__init__(optimizer, last_epoch, key=key)

    def _base(self, group: Mapping[str, Any], i: int) -> float:
        return self.base_lr[i]

    def _cycle(self, t: int) -> float:
        total = self.step_size_up + self.step_size_down
        cycle, x = 1 + t // total, t % total
        height = x / self.step_size_up if x <= self.step_size_up else (total - x) / self.step_size_down
        if self.scale_fn is not None:
            return height * result_of("scale_fn", self.scale_fn, cycle if self.scale_mode == "cycle" else t)
        if self.mode == "triangular2":
            return height * 0.5 ** (cycle - 1)
        return height * power(self.gamma, t) if self.mode == "exp_range" else height

    def closed_form(self, base: float, t: int, i: int) -> float:
        low, height = self.base_lr[i], self._place(t)
        return float(low + (self.max_lr[i] - low) * height)

    def _cycled_momentum(self, t: int, i: int) -> float:
        high, height = self.max_momentum[i], self._place(t)
        return float(high - (high - self.base_momentum[i]) * height)

    def _extra_state(self) -> dict[str, Any]:
        return {"scale_fn": callable_state(self.scale_fn)}

    def _check_extra(self, state: Mapping[str, Any]) -> None:
        if state["scale_fn"] is not None and self.scale_fn is None:
            raise ValueError("`state_dict` must have None as 'scale_fn' for a CyclicLR without `scale_fn`")
        check_callable_state("scale_fn", self.scale_fn, state["scale_fn"])

    def _load_extra(self, state: Mapping[str, Any]) -> None:
        load_callable_state(self.scale_fn, state["scale_fn"])
        self._latest = (-1, None)


class OneCycleLR(_CycledLR):
    """One rise from `max_lr / div_factor` to `max_lr` and one fall to that start / `final_div_factor`.

        counts 0 … pct_start * total_steps - 1            initial -> max_lr,    momentum max -> base
        then up to count total_steps - 1                  max_lr -> min,        momentum base -> max
        initial = max_lr / div_factor,   min = initial / final_div_factor

    optimizer: the optimizer whose groups are scheduled. Their initial values play no part.
    max_lr: the peak; a number, or a list with one per group.
    total_steps: the length; or `epochs` and `steps_per_epoch`, whose product it is. Count `total_steps`, which the
        usual loop reaches with its last `step()`, holds the end value. The next step raises ValueError, as does `at`.
    pct_start: the part of it that rises, from 0 to 1.    anneal_strategy: "cos", half cosines, or "linear".
    cycle_momentum, base_momentum, max_momentum: as in `CyclicLR`.
    div_factor, final_div_factor: what the peak is divided by at the start, and that again at the end.
    three_phase: falls to the start as slowly as it rose, then to min; `pct_start` is at most 0.5 then.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> OneCycleLR(opt, max_lr=1.0, total_steps=100, div_factor=4).at(0)
        [0.25]

    The cosine is the C library's: the same bits on one machine only. Source: Smith & Topin 2018,
    torch.optim.lr_scheduler.
    """

    def __init__(self, optimizer: Optimizer, max_lr: Values, total_steps: int | None = None,
                 epochs: int | None = None, steps_per_epoch: int | None = None, pct_start: float = 0.3,
                 anneal_strategy: str = "cos", cycle_momentum: bool = True, base_momentum: Values = 0.85,
                 max_momentum: Values = 0.95, div_factor: float = 25.0, final_div_factor: float = 1e4,
                 three_phase: bool = False, last_epoch: int = -1, *, key: str = "lr") -> None:
        self.max_lr: PerGroup[float] = PerGroup("max_lr", max_lr, optimizer, nonnegative)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("`total_steps` must be given, or both `epochs` and `steps_per_epoch`")
            total_steps = at_least(1)("epochs", epochs) * at_least(1)("steps_per_epoch", steps_per_epoch)
        self.total_steps: int = at_least(1)("total_steps", total_steps)
        pct_start = interval(0, 0.5 if three_phase else 1)("pct_start", pct_start)
        self.anneal_strategy: str = one_of("cos", "linear")("anneal_strategy", anneal_strategy)
        self.div_factor: float = positive("div_factor", div_factor)
        self.final_div_factor: float = positive("final_div_factor", final_div_factor)
        # A level is what `max_lr` is divided by, and whether it is the top, where the momentum is lowest.
        initial, top = (self.div_factor, False), (1.0, True)
        self._levels = [initial, top, (self.div_factor * self.final_div_factor, False)]
        self._ends = [pct_start * self.total_steps - 1, self.total_steps - 1]
        if three_phase:
            self._levels.insert(2, initial)
            self._ends.insert(1, 2 * self._ends[0])
        if cycle_momentum:
            self._cycle_momentum(optimizer, key, base_momentum, max_momentum)
        super().__init__(optimizer, last_epoch, key=key)

    def _base(self, group: Mapping[str, Any], i: int) -> float:
        return self.max_lr[i] / self.div_factor

    def _cycle(self, t: int) -> tuple[Level, Level, float]:
        """The levels that the phase of count `t` runs between, and how much of that way is done."""
        if t > self.total_steps:
            raise ValueError(f"`total_steps` is {self.total_steps}; there is no step {t}")
        t = min(t, self.total_steps - 1)
        phase = bisect_left(self._ends, t)
        begin, end = self._ends[phase - 1] if phase else 0.0, self._ends[phase]
        return self._levels[phase], self._levels[phase + 1], (t - begin) / (end - begin) if end > begin else 0.0

    def closed_form(self, base: float, t: int, i: int) -> float:
        (start, _), (end, _), progress = self._place(t)
        highest = self.max_lr[i]
        return self._between(highest / start, highest / end, progress)

    def _cycled_momentum(self, t: int, i: int) -> float:
        (_, from_top), (_, to_top), progress = self._place(t)
        low, high = self.base_momentum[i], self.max_momentum[i]
        return self._between(low if from_top else high, low if to_top else high, progress)

    def _between(self, start: float, end: float, progress: float) -> float:
        if self.anneal_strategy == "linear":
            return start + (end - start) * progress
        return blend(start, end, half_cosine(progress))
