"""A schedule is a function of the count; the base class counts, writes its values into the groups, and resumes.

Two formulas make a schedule. `closed_form` gives the value at any count, so nothing drifts and a resumed run continues
exactly. `recurrence` carries a value from one count to the next: it takes over where a group doesn't hold what the
closed form gave, because somebody set it by hand or a second scheduler works on it too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..checks import number, shown
from ..engine.optimizer import Optimizer
from ._arguments import Hyperparameter, an_optimizer, count

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class LRScheduler:
    """The base of all schedulers; a schedule of your own overrides `closed_form`.

    `base` is the group's initial value, `t` the count (0 in the constructor, one more in every `step`), `i` the
    group. Set what the formula needs before calling `super().__init__`, which writes the values of count 0:

        class HalfLifeLR(LRScheduler):
            def __init__(self, optimizer, half_life, last_epoch=-1, *, key="lr"):
                self.half_life = half_life
                super().__init__(optimizer, last_epoch, key=key)

            def closed_form(self, base, t, i):
                return base * 0.5 ** (t / self.half_life)

    `key` names the scheduled number: "lr", "weight_decay", "momentum", "betas[0]". The first scheduler of a key
    notes each group's value as `group["initial_<key>"]`. `last_epoch=k` resumes at count k + 1 from that note
    (KeyError without one): a group at its initial value or at that of count k moves to count k + 1, and any other
    value stays, since another scheduler or hand put it there; `load_state_dict` knows more, and is exact always.

    A state dict holds the progress as plain numbers, strings and lists, and no arguments: those of the constructor
    count. Loading writes the saved values of the scheduled numbers, and nothing else, into the groups, so it may
    come before or after loading the optimizer.
    """

    counts = True  # False where something else than the count makes the values
    fixed = False  # True where the values come from the arguments and not from the initial value
    carries = False  # True where the recurrence alone makes the whole schedule; ChainedScheduler asks
    cycles_momentum = False  # True where `_write_momentum` does something
    walked = False  # True where the closed form is a `Walk`, which only `at` should take
    _group_state: tuple[str, ...] = ("base_lrs", "_path", "_last_lr")

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1, *, key: str = "lr") -> None:
        self._attach(optimizer, key)
        self.last_epoch: int = count(-1)("last_epoch", last_epoch) + 1
        resumed = self.last_epoch > 0
        groups = optimizer.param_groups
        if resumed and not self.fixed:
            for i, group in enumerate(groups):
                if self._initial not in group:
                    raise KeyError(f"`last_epoch` >= 0 needs {self._initial!r} in every group; group {i} has none")
        self.base_lrs = [self._base(group, i) for i, group in enumerate(groups)]
        self._path = [self.closed_form(base, self.last_epoch, i) for i, base in enumerate(self.base_lrs)]
        values = [self._first_value(self._slot.get(group), i, resumed) for i, group in enumerate(groups)]
        for group, base in zip(groups, self.base_lrs, strict=True):
            self._note_initial(group, base)
        self._write(values)

    def _attach(self, optimizer: Optimizer, key: str) -> None:
        self.optimizer = an_optimizer(optimizer)
        self.key = key
        self._slot = Hyperparameter(key, optimizer)
        self._initial = f"initial_{key}"
        self._order_unchecked = True
        self._absolute = type(self).recurrence is LRScheduler.recurrence

    # The formulas

    def closed_form(self, base: float, t: int, i: int) -> float:
        """The value of group `i` at count `t`, given its initial value; changes nothing."""
        raise NotImplementedError(f"{type(self).__name__} must define closed_form(base, t, i)")

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        """The value at count `t` of a group that was found at `value`, off the closed form, after count t - 1.

        At t = 0 it enters the schedule. Without a recurrence the schedule writes its closed form over what it finds.
        """
        return self.closed_form(base, t, i)

    def at(self, t: int) -> list[float]:
        """The values of all groups at count `t`, by the closed form, without any effect."""
        t = self._check_count(t)
        bases = self.base_lrs
        new = [self._base(group, i) for i, group in enumerate(self.optimizer.param_groups) if i >= len(bases)]
        return [self.closed_form(base, t, i) for i, base in enumerate(bases + new)]

    def plot(self, steps: int, ax: Axes | None = None) -> Axes:
        """Draw the first `steps` values of every group with matplotlib, into `ax` if given; returns the axes."""
        from ..schedule_plot import plot_schedule

        return plot_schedule(self, steps, ax)

    # Counting and writing

    def step(self) -> None:
        """Move on to the next count; call it after `optimizer.step()`. An error changes nothing."""
        if self._order_unchecked:
            self._check_order()
        self._move_to(self.last_epoch + 1)

    def get_last_lr(self) -> list[float]:
        """The values that the last step (or the constructor) left in the groups."""
        return list(self._last_lr)

    def _move_to(self, t: int) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.base_lrs):
            self._adopt_new_groups()
        path, values = [], []
        for i, base in enumerate(self.base_lrs):
            if self.walked:
                on = value = self.recurrence(self._slot.get(groups[i]), base, t, i)
            else:
                on = value = self.closed_form(base, t, i)
                if not self._absolute and (found := self._slot.get(groups[i])) != self._path[i]:
                    value = self.recurrence(found, base, t, i)
            path.append(on)
            values.append(value)
        self._path = path
        self.last_epoch = t
        self._write(values)

    def _first_value(self, found: float, i: int, resumed: bool) -> float:
        base, path = self.base_lrs[i], self._path[i]
        if self._absolute or found == base:
            return path
        if not resumed:
            return self.recurrence(found, base, 0, i)
        return path if found == self.closed_form(base, self.last_epoch - 1, i) else found

    def _write(self, values: list[float]) -> None:
        groups = self.optimizer.param_groups
        for i, group in enumerate(groups):
            self._slot.set(group, values[i])
        self._last_lr = values
        if self.cycles_momentum:
            for i, group in enumerate(groups):
                self._write_momentum(group, self.last_epoch, i)

    def _write_momentum(self, group: dict[str, Any], t: int, i: int) -> None:
        """Write the momentum of count `t`, in schedules that cycle it."""

    def _slots(self) -> list[Hyperparameter]:
        """Every number that this scheduler writes."""
        return [self._slot]

    def _base(self, group: dict[str, Any], i: int) -> float:
        return float(group[self._initial]) if self._initial in group else self._slot.get(group)

    def _note_initial(self, group: dict[str, Any], base: float) -> None:
        group.setdefault(self._initial, base)

    def _adopt_new_groups(self) -> None:
        """A group added since the last step joins at the value it has: usually off the closed form."""
        for i in range(len(self.base_lrs), len(self.optimizer.param_groups)):
            group = self.optimizer.param_groups[i]
            base = self._base(group, i)
            path = self.closed_form(base, self.last_epoch, i)
            self._note_initial(group, base)
            self.base_lrs.append(base)
            self._path.append(path)
            self._last_lr.append(self._slot.get(group))

    def _check_count(self, t: Any) -> Any:
        return count(0)("t", t)

    def _check_order(self) -> None:
        if self.optimizer.steps_taken == 0:
            warnings.warn(
                f"{type(self).__name__}.step() came before optimizer.step(), so the first value was never used; "
                "call optimizer.step() first",
                UserWarning,
                stacklevel=3,
            )
        self._order_unchecked = False

    # Saving and restoring

    def state_dict(self) -> dict[str, Any]:
        """The progress as plain values (numbers, strings, lists, dicts, None): a snapshot, fit for JSON."""
        self._adopt_new_groups()
        groups = self.optimizer.param_groups
        return {
            "type": type(self).__name__,
            "key": self.key,
            "last_epoch": self.last_epoch,
            **{name: list(getattr(self, name)) for name in self._group_state},
            "values": {slot.key: [slot.get(group) for group in groups] for slot in self._slots()},
            **self._extra_state(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue where the scheduler that made `state_dict` stood; a state that doesn't fit changes nothing."""
        mine = self.state_dict()
        self._check_state(mine, state_dict)
        self._load_extra(state_dict)
        self.last_epoch = int(state_dict["last_epoch"])
        for name in self._group_state:
            setattr(self, name, [number(name, value) for value in state_dict[name]])
        for slot in self._slots():
            for group, value in zip(self.optimizer.param_groups, state_dict["values"][slot.key], strict=True):
                slot.set(group, number(slot.key, value))
        self._order_unchecked = False

    def _check_state(self, mine: dict[str, Any], state: Mapping[str, Any]) -> None:
        this = type(self).__name__
        if not isinstance(state, Mapping):
            raise TypeError(f"`state_dict` must be a dict, got {type(state).__name__}")
        for name in mine:
            if name not in state:
                raise ValueError(f"`state_dict` must come from {this}.state_dict(); it lacks {name!r}")
        for name in state:
            if name not in mine:
                raise ValueError(f"`state_dict` must come from {this}.state_dict(); it has an unknown {name!r}")
        for name in ("type", "key"):
            if state[name] != mine[name]:
                raise ValueError(f"`state_dict` must have the {name} {mine[name]!r}, got {shown(state[name])}")
        count(0)("last_epoch", state["last_epoch"])
        if not isinstance(state["values"], Mapping):
            raise TypeError(f"`state_dict` must have a dict of values, got {type(state['values']).__name__}")
        if set(state["values"]) != set(mine["values"]):
            raise ValueError(f"`state_dict` must have values of {', '.join(mine['values'])}, "
                             f"got {', '.join(map(str, state['values']))}")
        groups = len(self.optimizer.param_groups)
        for name, values in [*((name, state[name]) for name in self._group_state), *state["values"].items()]:
            if not isinstance(values, (list, tuple)):
                raise TypeError(f"`state_dict` must have a list in {name!r}, got {type(values).__name__}")
            if len(values) != groups:
                raise ValueError(f"`state_dict` must have one entry per group in {name!r}: {groups}, got {len(values)}")
            for value in values:
                number(name, value)
        self._check_extra(state)

    def _extra_state(self) -> dict[str, Any]:
        """What a schedule saves besides its count and values."""
        return {}

    def _check_extra(self, state: Mapping[str, Any]) -> None:
        """Refuse an extra state that doesn't fit, before anything is loaded."""

    def _load_extra(self, state: Mapping[str, Any]) -> None:
        """Take over the extra state."""


class Walk:
    """A closed form for what only a recurrence defines: it walks there from count 0.

    The last place reached is kept for each group, so that asking for 0, 1, 2, … costs one recurrence each.
    """

    def __init__(self) -> None:
        self._reached: dict[int, tuple[float, int, float]] = {}

    def __call__(self, recurrence: Callable[[float, float, int, int], float], base: float, t: int, i: int) -> float:
        start, reached, value = self._reached.get(i, (base, -1, base))
        if start != base or reached > t:
            reached, value = -1, base
        for k in range(reached + 1, t + 1):
            value = recurrence(value, base, k, i)
        self._reached[i] = (base, t, value)
        return value
