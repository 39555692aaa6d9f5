"""Compositions: a composition of schedules is again a function of the count, so it nests in every way.

The schedulers that are composed become formulas: only the composition counts, writes and is stepped.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any

from ..checks import shown
from ..engine.optimizer import Optimizer
from .arguments import counts, listed
from .base import LRScheduler
from .kinds import Walked


class _Composition(LRScheduler):
    _schedulers: list[LRScheduler]

    def _compose(self, optimizer: Optimizer | None, schedulers: Iterable[LRScheduler], key: str | None) -> str:
        """Checks that the schedulers go together; returns the key that they share."""
        name = type(self).__name__
        self._schedulers = parts = listed("schedulers", "schedulers, such as [warmup, decay]", schedulers)
        if not parts:
            raise ValueError("`schedulers` must have at least one scheduler, got none")
        for k, each in enumerate(parts):
            if not isinstance(each, LRScheduler):
                raise TypeError(f"`schedulers[{k}]` must be a scheduler, got {type(each).__name__}")
            if not each.follows_count:
                raise ValueError(f"`schedulers[{k}]` must be a function of the count, got {type(each).__name__}, "
                                 f"which needs a metric in every step; step it beside the {name}")
            if each.optimizer is not (optimizer or parts[0].optimizer):
                raise ValueError(f"`schedulers[{k}]` must belong to the {name}'s optimizer, got one of another")
            if each.key != (key or parts[0].key):
                raise ValueError(f"`schedulers[{k}]` must have the key {key or parts[0].key!r}, got {each.key!r}; "
                                 "step schedulers of different keys side by side")
        self.ignores_initial = any(each.ignores_initial for each in parts)
        self._momentum = next((each._momentum for each in parts if each._momentum is not None), None)
        return self._schedulers[0].key

    def _formula(self) -> str:
        return f"{type(self).__name__}([{', '.join(each._formula() for each in self._schedulers)}])"

    def _extra_state(self) -> dict[str, Any]:
        return {"schedulers": [{"type": type(s).__name__, **s._extra_state()} for s in self._schedulers]}

    def _check_extra(self, state: Mapping[str, Any]) -> None:
        given = state["schedulers"]
        if not isinstance(given, (list, tuple)) or not all(isinstance(each, Mapping) for each in given):
            raise TypeError(f"`state_dict` must have a list of dicts in 'schedulers', got {shown(given)}")
        mine, theirs = [type(each).__name__ for each in self._schedulers], [str(each.get("type")) for each in given]
        if mine != theirs:
            raise ValueError(f"`state_dict` must come from the schedulers {', '.join(mine)}, got {', '.join(theirs)}")
        for each, saved in zip(self._schedulers, given, strict=True):
            if lacking := each._extra_state().keys() - saved.keys():
                raise ValueError(f"`state_dict` must come from the schedulers {', '.join(mine)}; "
                                 f"that of {type(each).__name__} lacks {min(lacking)!r}")
            each._check_extra(saved)

    def _load_extra(self, state: Mapping[str, Any]) -> None:
        for each, saved in zip(self._schedulers, state["schedulers"], strict=True):
            each._load_extra(saved)


class SequentialLR(_Composition):
    """One schedule after another: each starts over, at count 0 and from the initial values, at its milestone.

        value(t) = schedulers[k].at(t - m),   m the last milestone <= t,   k the number of milestones <= t

    optimizer: the optimizer of all schedulers.
    schedulers: a list of schedulers; `ReduceLROnPlateau` is refused. Step this object, and none of them.
    milestones: one entry less than `schedulers`, in rising order.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: that of the schedulers, unless given.

        >>> SequentialLR(opt, [ConstantLR(opt, 0.5), ExponentialLR(opt, 0.5)], milestones=[4]).at(6)
        [0.25]

    Source: torch.optim.lr_scheduler.
    """

    def __init__(self, optimizer: Optimizer, schedulers: Iterable[LRScheduler], milestones: Iterable[int],
                 last_epoch: int = -1, *, key: str | None = None) -> None:
        key = self._compose(optimizer, schedulers, key)
        self._milestones = counts("milestones", milestones)
        if len(self._milestones) != len(self._schedulers) - 1:
            raise ValueError(f"`milestones` must have one entry less than `schedulers`: {len(self._schedulers) - 1}, "
                             f"got {len(self._milestones)}")
        if self._milestones != sorted(self._milestones):
            raise ValueError(f"`milestones` must rise, got {self._milestones}")
        super().__init__(optimizer, last_epoch, key=key)

    def _formula(self) -> str:
        return f"{super()._formula()[:-1]}, {self._milestones})"

    def _active(self, t: int) -> tuple[LRScheduler, int]:
        """The schedule of count `t`, and its own count, which is 0 when it takes over."""
        k = bisect_right(self._milestones, t)
        return self._schedulers[k], t - self._milestones[k - 1] if k else t

    def closed_form(self, base: float, t: int, i: int) -> float:
        schedule, own = self._active(t)
        return schedule.closed_form(base, own, i)

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        schedule, own = self._active(t)
        return schedule.recurrence(value, base, own, i) if own else schedule.closed_form(base, own, i)

    def _first_value(self, found: float, i: int, resumed: bool) -> float:
        return self._path[i]  # the group holds what the constructors of the schedulers left there

    def _momentum_at(self, t: int, i: int) -> float | None:
        schedule, own = self._active(t)
        momentum = schedule._momentum_at(own, i)
        in_constructor = not self._last_lr  # the constructors of other schedulers have written their momentum
        if momentum is None and self._momentum is not None and (own == 0 or in_constructor):
            return self._momentum.get_initial(self.optimizer.param_groups[i])
        return momentum


class ChainedScheduler(Walked, _Composition):
    """Several schedules at once: their factors multiply.

        value(t) = recurrences(t) * product of (schedule.at(t) / initial)

    Schedules with a recursion in torch (`chainable`) take turns in every step, in their order, each from the value
    that the one before it left, as in torch. The others (LambdaLR, CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR,
    SequentialLR, the warm-up schedules, your own) would overwrite what they find, so they multiply it by their factor.

    schedulers: a list of schedulers that stand at the same count; `ReduceLROnPlateau` is refused, and a second one of
        CyclicLR and OneCycleLR, whose values don't come from the initial ones. Step this object, and none of them.
    optimizer: theirs, unless given.    key: theirs, unless given.

        >>> ChainedScheduler([ConstantLR(opt, 0.5), ExponentialLR(opt, 0.5)]).at(2)
        [0.125]

    Source: torch.optim.lr_scheduler.
    """

    def __init__(self, schedulers: Iterable[LRScheduler], optimizer: Optimizer | None = None, *,
                 key: str | None = None) -> None:
        key = self._compose(optimizer, schedulers, key)
        counts = sorted({each.last_epoch for each in self._schedulers})
        if len(counts) > 1:
            raise ValueError(f"`schedulers` must stand at the same count, got {', '.join(map(str, counts))}")
        # A chain in the chain is the same as its schedulers.
        self._schedulers = [part for each in self._schedulers
                            for part in (each._schedulers if isinstance(each, ChainedScheduler) else [each])]
        if sum(part.ignores_initial for part in self._schedulers) > 1:
            raise ValueError("`schedulers` may have one with values of its own (CyclicLR, OneCycleLR), got several")
        self._carried = [part for part in self._schedulers if part.chainable]
        self._scaling = [part for part in self._schedulers if not part.chainable]
        self._scaling.sort(key=lambda part: not part.ignores_initial)
        super().__init__(self._schedulers[0].optimizer, counts[0] - 1, key=key)

    def closed_form(self, base: float, t: int, i: int) -> float:
        if not self._scaling:
            return self._walk(self._carry, base, t, i)
        unit = base or 1.0
        return self._scale(base, t, i) * (self._walk(self._carry, unit, t, i) / unit)

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        value = self._carry(value, base, t, i)
        if not self._scaling:
            return value
        before = self._scale(base, t - 1, i)
        return value * (self._scale(base, t, i) / before) if before else self.closed_form(base, t, i)

    def _expected(self, base: float, t: int, i: int) -> float:
        return self.closed_form(base, t, i) if self._scaling else super()._expected(base, t, i)

    def _carry(self, value: float, base: float, t: int, i: int) -> float:
        """The recurrences, one after another."""
        for each in self._carried:
            value = each.recurrence(value, base, t, i)
        return value

    def _scale(self, base: float, t: int, i: int) -> float:
        """The first scaling schedule, times the factors of the others; found on 1 if the initial value is 0."""
        unit = base or 1.0
        value = self._scaling[0].closed_form(base, t, i)
        for each in self._scaling[1:]:
            value *= each.closed_form(unit, t, i) / unit
        return value

    def _first_value(self, found: float, i: int, resumed: bool) -> float:
        # Recurrences have found each other's values already; scaling schedules have overwritten them.
        return self._path[i] if self._scaling else found

    def _momentum_at(self, t: int, i: int) -> float | None:
        momenta = (each._momentum_at(t, i) for each in self._schedulers)
        return next((momentum for momentum in momenta if momentum is not None), None)
