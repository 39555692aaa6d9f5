"""scikit-learn's MLPs, trained by optimlite's optimizers.

    from optimlite.sklearn import MLPClassifier          # was: from sklearn.neural_network import MLPClassifier
    model = MLPClassifier((100,), optimizer=ol.AdamW, optimizer_options={"weight_decay": 0.01}).fit(X, y)

Everything else (early stopping, batches, `partial_fit`, `clone`, grids, pickles) is scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

try:
    from sklearn import neural_network
except ImportError:
    raise ImportError("`optimlite.sklearn` needs scikit-learn; install it with `pip install scikit-learn`") from None

from .catalogue import stepping
from .checks import shown
from .engine.optimizer import Optimizer
from .optimizers.adam import Adam

__all__ = ["MLPClassifier", "MLPRegressor"]


class Stepping:
    """What scikit-learn's loop asks of an optimizer."""

    def __init__(self, optimizer: Optimizer, schedule: Callable[[int], float] | None) -> None:
        self.optimizer, self.schedule, self.epoch = optimizer, schedule, 0
        self.set_rate()

    def update_params(self, params: list[Any], grads: list[Any]) -> None:
        own = self.optimizer.param_groups[0]["params"]
        for parameter, array in zip(own, params, strict=True):
            if parameter.data is not array:      # somebody has put another one in its place
                self.optimizer.replace(parameter, array)
        self.optimizer.step(grads=grads)

    def iteration_ends(self, time_step: int) -> None:
        self.epoch += 1
        self.set_rate()

    def set_rate(self) -> None:
        if self.schedule is not None:
            self.optimizer.param_groups[0]["lr"] = self.schedule(self.epoch)

    def trigger_stopping(self, msg: str, verbose: bool) -> bool:
        if verbose:
            print(f"{msg} Stopping.")
        return True


class OurSteps:
    """The part of both estimators that puts another optimizer in the place of scikit-learn's.

    optimizer: a class of optimlite's; Adam unless given.    optimizer_options: its arguments; `lr` is
        `learning_rate_init` unless they say otherwise.
    schedule: a function of the epoch that gives the learning rate, such as `ol.schedules.cosine(1e-3, T_max=200)`.
    hidden_layer_sizes, params: those of scikit-learn's class, by name but for the first.  `solver` and what belongs to
        one play no part.

    The optimizer is there as `optimizer_` once there was a step.  L2 regularisation is `alpha`, part of the loss as in
    scikit-learn; set it to 0 where the optimizer has a `weight_decay` of its own.  `fit` raises TypeError for an
    `optimizer` that isn't a class of optimlite's, or that searches along lines, for `optimizer_options` that are no
    dict or that the class doesn't have, and for a `schedule` that is no function; and what scikit-learn raises.

        >>> from optimlite.sklearn import {name}
        >>> X = np.linspace(-1, 1, 40).reshape(-1, 1)
        >>> model = {name}((8,), optimizer=ol.AdamW, random_state=0, max_iter=400, learning_rate_init=0.05)
        >>> bool(model.fit(X, {target}).score(X, {target}) > 0.9)
        True
    """

    def __init__(self, hidden_layer_sizes: Any = (100,), *, optimizer: type[Optimizer] = Adam,
                 optimizer_options: dict[str, Any] | None = None, schedule: Callable[[int], float] | None = None,
                 **params: Any) -> None:
        super().__init__(hidden_layer_sizes=hidden_layer_sizes, **params)   # type: ignore[call-arg]
        self.optimizer = optimizer
        self.optimizer_options = optimizer_options
        self.schedule = schedule

    @classmethod
    def _get_param_names(cls) -> list[str]:
        names: list[str] = super()._get_param_names()            # type: ignore[misc]
        base = cls.__mro__[cls.__mro__.index(OurSteps) + 1]
        return sorted({*names, *base._get_param_names()})        # type: ignore[attr-defined]

    @property
    def optimizer_(self) -> Optimizer:
        found: Optimizer = self._optimizer.optimizer
        return found

    @property
    def _optimizer(self) -> Stepping:
        try:
            return self.__dict__["_stepping"]                    # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has taken no step yet; call fit before") from None

    @_optimizer.setter
    def _optimizer(self, theirs: Any) -> None:
        """scikit-learn's loop assigns its optimizer where one begins."""
        self._begin()

    def _begin(self) -> Stepping:
        given, schedule = self.optimizer_options or {}, self.schedule
        if not isinstance(given, Mapping):
            raise TypeError(f"`optimizer_options` must be a dict, got {shown(given)}")
        if schedule is not None and (not callable(schedule) or isinstance(schedule, type)):
            raise TypeError(f"`schedule` must be a function of the epoch, such as ol.schedules.cosine(1e-3, T_max=200),"
                            f" got {shown(schedule)}")
        options = {"lr": self.learning_rate_init, **given}       # type: ignore[attr-defined]
        params = self.coefs_ + self.intercepts_                  # type: ignore[attr-defined]
        optimizer = stepping("optimizer", self.optimizer)(params, **options)
        made = self.__dict__["_stepping"] = Stepping(optimizer, schedule)
        return made

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()           # type: ignore[assignment]
        if stepping := state.get("_stepping"):   # without its arrays: joblib would take them apart
            state = {**state, "_stepping": (stepping.epoch, stepping.optimizer.state_dict())}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("_stepping", None)
        super().__setstate__(state)              # type: ignore[misc]
        if saved:
            stepping = self._begin()
            stepping.epoch, state_dict = saved
            stepping.optimizer.load_state_dict(state_dict)


def described(name: str, target: str) -> str:
    """The docstring of an estimator, with an example whose target it is told."""
    both = (OurSteps.__doc__ or "").partition("\n\n")[2]          # nothing where Python runs by -OO
    return (f"An {name} of scikit-learn's, trained by an optimizer of optimlite.\n\n"
            f"{both.replace('{name}', name).replace('{target}', target)}")


class MLPClassifier(OurSteps, neural_network.MLPClassifier):     # type: ignore[misc]
    __doc__ = described("MLPClassifier", "X[:, 0] > 0")


class MLPRegressor(OurSteps, neural_network.MLPRegressor):       # type: ignore[misc]
    __doc__ = described("MLPRegressor", "X[:, 0] ** 2")
