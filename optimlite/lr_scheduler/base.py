"""A schedule is a function of the count; the base class counts, writes its values into the groups, and resumes.

A schedule has one formula. `closed_form` gives the value at any count, so nothing drifts and a resumed run continues
exactly. A group may hold something else, because somebody set it by hand or a second scheduler works on it too; the
base class then carries that value on in proportion to the closed form, which is what torch's recursions do.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..checks import at_least, naming, number, parameters_of
from ..engine.optimizer import Optimizer
from .arguments import Hyperparameter, alone, an_optimizer
from .plot import plot_schedule
from .state_dict import check_state

if TYPE_CHECKING:
    from matplotlib.axes import Axes


constructing = naming({"optimizer", "last_epoch", "_last_lr"}, "super().__init__(optimizer, last_epoch)")


class LRScheduler:
    """The base of all schedulers; a schedule of your own overrides `closed_form`.

    optimizer: the optimizer whose parameter groups are scheduled, each from its own initial value.
    last_epoch: -1 starts at count 0. `last_epoch=k` resumes at count k + 1, and needs the initial value in
        `group["initial_<key>"]`, where the first scheduler of a key notes it (KeyError without one). A group at its
        initial value or at that of count k moves to count k + 1. Other values are kept, because another scheduler or
        the user set them. `load_state_dict` is always exact.
    key: the scheduled number: "lr", "weight_decay", "momentum", "betas[0]".

    In `closed_form`, `base` is the group's initial value, `t` the count (0 in the constructor, one more in every
    `step`), `i` the group's number. Set what the formula needs before calling `super().__init__`, which writes the
    values of count 0:

        class HalfLifeLR(LRScheduler):
            def __init__(self, optimizer, half_life, last_epoch=-1, *, key="lr"):
                self.half_life = half_life
                super().__init__(optimizer, last_epoch, key=key)

            def closed_form(self, base, t, i):
                return base * 0.5 ** (t / self.half_life)

    A state dict holds the progress as plain numbers, strings and lists, and no arguments: those of the constructor
    apply. Loading writes the saved values of the scheduled numbers, and nothing else, into the groups, so it may
    come before or after loading the optimizer.
    """

    follows_count = True      # False for schedules driven by a metric
    ignores_initial = False   # True for schedules between values of their own
    chainable = False         # torch's word for a recursion: in a chain it takes its turn instead of giving a factor
    _momentum: Hyperparameter | None = None   # what is cycled against the scheduled value, if anything
    _group_state: tuple[str, ...] = ("base_lrs", "_path", "_last_lr")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = constructing(cls.__init__)  # type: ignore[method-assign]

    @constructing
    def __init__(self, optimizer: Optimizer, last_epoch: int = -1, *, key: str = "lr") -> None:
        self._attach(optimizer, key)
        self.last_epoch: int = at_least(-1)("last_epoch", last_epoch) + 1
        resumed = self.last_epoch > 0
        groups = optimizer.param_groups
        if resumed and not self.ignores_initial:
            for i, group in enumerate(groups):
                if self._slot.initial not in group:
                    raise KeyError(f"`last_epoch` >= 0 needs {self._slot.initial!r} in every group; group {i} has none")
        self.base_lrs = [self._base(group, i) for i, group in enumerate(groups)]
        # The closed form at the present count; saved under this name.
        self._path = [self.closed_form(base, self.last_epoch, i) for i, base in enumerate(self.base_lrs)]
        values = [self._first_value(self._slot.get(group), i, resumed) for i, group in enumerate(groups)]
        momenta = self._momenta(self.last_epoch)
        for group in groups:
            self._note_initial(group)
        self._write(values, momenta)

    def _attach(self, optimizer: Optimizer, key: str) -> None:
        self.optimizer = an_optimizer(optimizer)
        self.key = key
        self._slot = Hyperparameter(key, optimizer)
        self._last_lr: list[float] = []
        self._order_unchecked = True

    # The formula

    def closed_form(self, base: float, t: int, i: int) -> float:
        """The value of group `i` at count `t`, given its initial value; changes nothing."""
        raise NotImplementedError(f"{type(self).__name__} must define closed_form(base, t, i)")

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        """The value at count `t` of a group that held `value`, and not the closed form, after count t - 1.

        It goes on in proportion to the closed form, which begins at the initial value before count 0. Where the closed
        form stands still, so does the value; where it leaves 0, there is no proportion, and the value joins it.
        """
        unit = base or 1.0  # nothing is proportional to an initial value of 0
        before = self.closed_form(unit, t - 1, i) if t else unit
        after = self.closed_form(unit, t, i)
        if before == after:
            return value
        if value == before:
            return after  # to the bit: a chain's walk must begin with what the constructors of its schedulers wrote
        return value * (after / before) if before else self.closed_form(base, t, i)

    def at(self, t: float) -> list[float]:
        """The values of all groups at count `t`, by the closed form, without any effect; 30.0 is a count, too."""
        k = self._check_count(t)
        bases = self.base_lrs
        new = [self._base(group, i) for i, group in enumerate(self.optimizer.param_groups) if i >= len(bases)]
        return [self.closed_form(base, k, i) for i, base in enumerate(bases + new)]

    def plot(self, steps: int, ax: Axes | None = None) -> Axes:
        """Draws the first `steps` values of every group with matplotlib, into `ax` if given; returns the axes."""
        values = [self.at(t) for t in range(at_least(1)("steps", steps))]
        return plot_schedule(values, self.key, type(self).__name__, ax)

    # Counting and writing

    @alone
    def step(self) -> None:
        """Moves on to the next count; call it after `optimizer.step()`. An error changes nothing."""
        if self._order_unchecked:
            self._check_order(stacklevel=4)
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
            expected = self._expected(base, t, i)
            found = self._slot.get(groups[i])
            path.append(expected)
            values.append(expected if found == self._path[i] else self.recurrence(found, base, t, i))
        momenta = self._momenta(t)
        self._path = path
        self.last_epoch = t
        self._write(values, momenta)

    def _expected(self, base: float, t: int, i: int) -> float:
        """The closed form at the next count."""
        return self.closed_form(base, t, i)

    def _first_value(self, found: float, i: int, resumed: bool) -> float:
        base, path = self.base_lrs[i], self._path[i]
        if found == base:
            return path
        if not resumed:
            return self.recurrence(found, base, 0, i)
        return path if found == self.closed_form(base, self.last_epoch - 1, i) else found

    def _write(self, values: list[float], momenta: list[float | None]) -> None:
        for i, group in enumerate(self.optimizer.param_groups):
            self._slot.set(group, values[i])
            if self._momentum is not None and (momentum := momenta[i]) is not None:
                self._momentum.set(group, momentum)
        self._last_lr = values

    def _momenta(self, t: int) -> list[float | None]:
        return [] if self._momentum is None else [self._momentum_at(t, i) for i in range(len(self.base_lrs))]

    def _momentum_at(self, t: int, i: int) -> float | None:
        """The momentum of count `t`; None where the schedule leaves it alone."""
        return None

    def _slots(self) -> list[Hyperparameter]:
        """Every number that this scheduler writes."""
        return [self._slot] if self._momentum is None else [self._slot, self._momentum]

    def _base(self, group: Mapping[str, Any], i: int) -> float:
        return self._slot.get_initial(group)

    def _note_initial(self, group: dict[str, Any]) -> None:
        for slot in self._slots():
            group.setdefault(slot.initial, slot.get(group))

    def _adopt_new_groups(self) -> None:
        """A group added since the last step joins at the value it has: usually off the closed form."""
        for i in range(len(self.base_lrs), len(self.optimizer.param_groups)):
            group = self.optimizer.param_groups[i]
            base = self._base(group, i)
            path = self.closed_form(base, self.last_epoch, i)
            self._note_initial(group)
            self.base_lrs.append(base)
            self._path.append(path)
            self._last_lr.append(self._slot.get(group))

    def _check_count(self, t: Any) -> Any:
        return at_least(0)("t", t)

    def _check_order(self, stacklevel: int) -> None:
        if self.optimizer.steps_taken == 0:
            warnings.warn(
                f"{type(self).__name__}.step() came before optimizer.step(), so the first value was never used; "
                "call optimizer.step() first",
                UserWarning,
                stacklevel=stacklevel,
            )
        self._order_unchecked = False

    # Saving, restoring and showing

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
        """Continues where the scheduler that made `state_dict` stood; a state that doesn't fit changes nothing."""
        self._check_state(self.state_dict(), state_dict)
        self._load_extra(state_dict)
        self.last_epoch = int(state_dict["last_epoch"])
        for name in self._group_state:
            setattr(self, name, [float(number(name, value)) for value in state_dict[name]])
        for slot in self._slots():
            for group, value in zip(self.optimizer.param_groups, state_dict["values"][slot.key], strict=True):
                slot.set(group, float(number(slot.key, value)))
        self._order_unchecked = False

    def _check_state(self, mine: dict[str, Any], state: Mapping[str, Any]) -> None:
        check_state(type(self).__name__, mine, state, self._group_state)
        self._check_extra(state)

    def _extra_state(self) -> dict[str, Any]:
        """What a schedule saves besides its count and values."""
        return {}

    def _check_extra(self, state: Mapping[str, Any]) -> None:
        """Refuses an extra state that doesn't fit, before anything is loaded."""

    def _load_extra(self, state: Mapping[str, Any]) -> None:
        """Takes over the extra state."""

    def _formula(self) -> str:
        """The schedule and its own arguments, as a call."""
        names = [name for name in parameters_of(type(self).__init__)[0]
                 if name not in ("optimizer", "last_epoch", "key") and hasattr(self, name)]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def __repr__(self) -> str:
        return f"<{self._formula()} at count {self.last_epoch}: {self.key} {self._last_lr}>"
