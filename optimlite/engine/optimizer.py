"""The base of every optimizer: parameter groups, gradients, state, state dicts. How a step is made is a subclass's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import checks
from ..checks import naming, shown
from ..native.gradients import clippable_in_place
from ..native.parameters import AddressRanges, forget_gradients
from . import nesting
from . import state_dict as state_dicts
from .gradient_options import check_writeable, zero_gradients
from .groups import _OF_THIS_OBJECT, Grouped
from .hooks import call, passed, surrounded
from .parameter import Parameter
from .sparse_grad import SparseGrad
from .state import StateMap, fitting

if TYPE_CHECKING:
    from .memory import Memory

constructing = naming({"defaults", "param_groups"}, "super().__init__(params, defaults)")


class OfGroups:
    """Takes the place of a hyper-parameter among the attributes, where `opt.lr = 0.1` would do nothing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Any, owner: type) -> Any:
        if optimizer is None:                            # so `hasattr` says no of the class, too
            raise AttributeError(f"type object '{owner.__name__}' has no attribute '{self.name}'")
        raise AttributeError(f"{owner.__name__} has no `{self.name}` of its own, each parameter group has one; "
                             f"use opt.param_groups[0][\"{self.name}\"]")

    def __set__(self, optimizer: Any, value: Any) -> None:
        raise AttributeError(f"{type(optimizer).__name__} has no `{self.name}` of its own, each parameter group has "
                             f"one; use opt.param_groups[0][\"{self.name}\"] = {shown(value)}")


class Optimizer(Grouped):
    """The base class of all optimizers.

    params: any nesting of dicts, lists, tuples and generators of Parameters or arrays, or a list of groups: dicts with
        such a nesting under "params" and, beside it, the hyper-parameters that differ from `defaults`.  Bare arrays are
        wrapped and share memory.
    defaults: the hyper-parameters of groups that don't say otherwise, by name.

    A user's own optimizer calls `super().__init__(params, defaults)` and overrides `step`: it loops over
    `self.param_groups`, reads `p.grad`, keeps arrays in `self.state[p]` and updates `p.data` in place.  One with a
    compiled rule derives from `RuleOptimizer` (`optimlite/engine/rule_optimizer.py`).

    Raises TypeError or ValueError, before anything is changed, for parameters that can't be updated in place, that
    appear twice or overlap in memory, for an empty parameter list, and for hyper-parameters out of range.

        >>> class Descent(ol.Optimizer):
        ...     def __init__(self, params, lr=0.1):
        ...         super().__init__(params, {"lr": lr})
        ...     def step(self, closure=None):
        ...         for group in self.param_groups:
        ...             for p in group["params"]:
        ...                 p.data -= group["lr"] * p.grad
        >>> w = np.array([1.0, -2.0])
        >>> Descent([w]).step(grads=[2 * w])
        >>> w
        array([ 0.8, -1.6])
    """

    steps_another: ClassVar[bool] = False                # then the other one's hooks are called

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = constructing(cls.__init__)        # type: ignore[method-assign]
        if "step" in cls.__dict__ and not cls.steps_another:
            cls.step = surrounded(cls.step)              # type: ignore[method-assign]
        for name in (*cls.__dict__.get("checks", ()), *(("state_dtype",) if "options" in cls.__dict__ else ())):
            if not hasattr(cls, name):
                setattr(cls, name, OfGroups(name))

    @constructing
    def __init__(self, params: Any, defaults: Mapping[str, Any]) -> None:
        super().__init__(defaults)
        given, params = params, _listed(params)
        self._grouped = _is_groups(params)
        if not self._grouped:
            self._check_not_groups(params)
        groups = params if self._grouped else [{"params": params}]
        if isinstance(params, (list, Mapping)) and not len(params):
            used_up = "; a generator gives its items once" if isinstance(given, Iterator) else ""
            raise ValueError(f"an optimizer needs at least one parameter, got an empty list{used_up}")
        for group in groups:
            self.add_param_group(group)
        if not (self._grouped or self._parameters()):
            raise ValueError("an optimizer needs at least one parameter, got an empty nesting")

    def _check_not_groups(self, params: Any) -> None:
        """Refuses groups that aren't in a list, or have a misspelt "params": their options would be parameters."""
        for item in [params] if isinstance(params, Mapping) else params if isinstance(params, list) else []:
            options = [key for key in self.defaults if isinstance(item.get(key), (int, float, np.generic, str))
                       ] if isinstance(item, Mapping) else []
            if options:
                cure = "give a list of groups, [{...}]" if "params" in item else "its parameters belong under 'params'"
                raise ValueError(f"a dict with `{options[0]}` is a parameter group, got the keys {list(item)}; {cure}")

    # Groups ----------------------------------------------------------------------------------------------------------

    def remove(self, parameter: Parameter | np.ndarray | str) -> None:
        """Takes a parameter out of its group, and its state with it; `parameter` may be its array or its name.

        The group stays, even an empty one.  Gradients that come in the nesting of the parameters come without it then,
        and without branches that it leaves empty.  Raises KeyError for a parameter that isn't there.
        """
        from .replacing import remove  # few programs do

        remove(self, self.state.find(parameter))

    def replace(self, parameter: Parameter | np.ndarray | str, new: Parameter | np.ndarray, rows: Any = None,
                ) -> Parameter:
        """Puts another array in the place of a parameter, in its group and under its name; returns its Parameter.

            params["x"] = np.concatenate([x[keep], fresh])
            opt.replace("x", params["x"], rows=keep)

        `rows`: for each row of `new` the number of the row of the old array whose state it takes over, -1 for none; or
        a mask of the old rows that stay, in order.  Rows beyond it are new.  New rows begin with the values that state
        begins with; what isn't kept by row (`step`, Adafactor's `col_var`) stays as it is.  Without `rows`, the state
        stays if the shape does; else it begins anew, as if the parameter hadn't stepped.  Closure methods always begin
        anew.  Gradients aren't taken over.

        Raises KeyError for a parameter that isn't there, TypeError for another dtype, and ValueError for rows that
        aren't there, for state that rows don't fit, and for what an optimizer refuses of parameters; nothing is changed
        then.
        """
        from .replacing import replace

        return replace(self, self.state.find(parameter), new, rows)

    # Gradients -------------------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops all gradients, or fills them with zeros in place.

        With `set_to_none=False`, raises ValueError for a gradient that is read-only, broadcast or shares memory with a
        parameter or state; nothing is changed then.
        """
        if set_to_none:
            for group in self.param_groups:
                forget_gradients(group["params"])
            return
        given = self._parameters()
        self._check_zeroing([parameter for parameter in given if not isinstance(parameter.grad, SparseGrad)])
        zero_gradients(given)

    def _check_zeroing(self, parameters: list[Parameter]) -> None:
        """Raises ValueError if a gradient can't be zeroed in place."""
        known = self._memory if self._version == self.state.version else None
        memory = known or AddressRanges(self.state.arrays())
        if not parameters or clippable_in_place(parameters, memory) is not None:
            return
        kept = list(self.state.arrays())
        for parameter in parameters:
            gradient = parameter.grad
            if isinstance(gradient, np.ndarray):
                check_writeable(gradient, f"gradient of '{self.state.name_of(parameter)}'", "zeroed",
                               "use zero_grad() to drop it", memory, kept)

    # Stepping --------------------------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        """Updates every parameter that has a gradient, in place; a subclass says how, and what else it takes."""
        raise NotImplementedError(f"{type(self).__name__} must override `step`, or derive from RuleOptimizer")

    def step_parameter(self, parameter: Parameter | np.ndarray | str, grad: Any, *, grad_scale: float = 1.0,
                       max_grad_norm: float | None = None) -> None:
        """Steps one parameter, in the middle of a backward pass: no other gradient need exist at the same time.

        parameter: the Parameter, its array or its name.    grad: its gradient, which isn't kept.
        grad_scale: as for `step`.
        max_grad_norm: clips by the norm of all gradients of the round before, since this one's isn't known yet; the
            first round isn't clipped.  `last_grad_norm` is that norm.

        A round ends when a parameter comes a second time; `steps_taken` counts rounds.  Without clipping, the bits are
        those of `step`.  Raises TypeError for methods that need all gradients at once (closures, Prodigy, DoG), and
        ValueError where another parameter has a gradient.
        """
        from .step_parameter import step_parameter  # few programs do

        step_parameter(self, self.state.find(parameter), grad, grad_scale, max_grad_norm)

    @staticmethod
    def _evaluate(closure: Callable[[], Any], grads: Any) -> tuple[Any, Any]:
        """The closure's loss, and its gradients or those that were given."""
        if not callable(closure):
            raise TypeError(f"`closure` must be a function that returns the loss, got {type(closure).__name__}; "
                            f"gradients are given as step(grads=...)")
        loss = closure()
        if not isinstance(loss, tuple):
            return loss, grads
        if len(loss) != 2:
            raise ValueError(f"`closure` must return the loss or (loss, grads), got a tuple of {len(loss)}")
        if grads is not None:
            raise ValueError("gradients came from the closure and as `grads`; give them once")
        return loss

    def metrics(self) -> dict[str, float]:
        """How the run goes, as a flat dict of numbers for a log: steps, rates, and what was measured of the last step.

            steps, skipped_steps               taken by this object; those of them that `skip_nonfinite` skipped
            lr, or lr/0, lr/1, ...             of each group; likewise what the method moves itself, such as Prodigy's d
            grad_norm                          before clipping, where the last step measured it
            grad_norm, weight_norm, update_norm, update_ratio    of the step that `watch` had measured, `measured_at`;
            grad_norm/NAME, ...                and of each parameter.  update_ratio is update_norm / weight_norm

        Weights are those before the step, gradients those of `grad_scale * grad`.
        """
        from .metrics import collected  # most programs never ask

        return collected(self)

    # State dicts -----------------------------------------------------------------------------------------------------

    def state_dict(self, copy: bool = True, *, dtype: str | None = None) -> dict[str, Any]:
        """State and hyper-parameters in torch's layout: {"state": {index: {name: array}}, "param_groups": [...]}.

        A snapshot: later steps don't change it.  `copy=False` gives the live arrays, for writing to disk at once.
        `dtype="float32"`: state that is kept in fewer bytes comes as float32 (for float64 parameters as float64), and
        without the options that say how it is kept; for other programs, torch among them.
        """
        if dtype not in (None, "float32"):
            raise ValueError(f"`dtype` must be None or 'float32', got {shown(dtype)}")
        call(self._before_save, self)
        state_dict = state_dicts.save(self, copy, plain=dtype is not None)
        result: dict[str, Any] = passed(self._after_save, self, state_dict)
        return result

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> state_dicts.Mismatch:
        """Loads a state dict of optimlite or torch: copies into the live arrays, and replaces the hyper-parameters.

        Parameters are matched by name where both sides are fully and uniquely named, else by position.  That is all
        that the names of a state dict do: a parameter keeps the name that it has, or none.  Options that the state dict
        doesn't know, and that are off by default, came later: they are off, and named in the result's `defaulted`.
        Keys of a user's own are loaded where the group has them, too.

        Raises ValueError, naming every key, if anything is missing, unexpected (an option of a newer version, say),
        misshapen or would lose values in the cast to the parameter's dtype; nothing is changed then.  `strict=False`
        loads what fits.  Returns what didn't.
        """
        mismatch = state_dicts.load(self, passed(self._before_load, self, state_dict), strict)
        call(self._after_load, self)
        return mismatch

    def offload(self, folder: str | PathLike[str] | None) -> None:
        """Keeps the state in files of a folder from now on; None brings it back into memory.  No bit changes.

        folder: one that exists, on a disk with room for the whole state, which is taken at once.

        The files have no names, and are gone with the optimizer or the process: a checkpoint is what lasts.  Arrays
        below 1 MB stay in memory.  Everything else goes on as before; see docs/memory.md for what it costs, and for
        parameters in files.

        Raises TypeError for closure methods and optimizers without a compiled rule, and OSError where the folder isn't
        there or can't take the state; nothing is changed then.

            >>> import tempfile
            >>> w = np.ones(1 << 18, np.float32)
            >>> opt = ol.Adam([w])
            >>> opt.offload(tempfile.gettempdir())
            >>> opt.step(grads=[w.copy()])
            >>> opt.memory().in_files
            2097152
        """
        from .offload import offload  # few programs do

        offload(self, folder)

    def memory(self) -> Memory:
        """How many bytes parameters, gradients and each kind of state take now; printed, it is a small table.

            >>> opt = ol.SGD([np.zeros(1000, np.float32)], momentum=0.9)
            >>> opt.step(grads=[np.ones(1000, np.float32)])
            >>> opt.memory()
                                       bytes  per element
            parameters                 4,000         4.00
            gradients                  4,000         4.00
            momentum_buffer            4,000         4.00
            total                     12,000        12.00
        """
        from .memory import memory  # few programs ask

        return memory(self)

    def __getstate__(self) -> dict[str, Any]:
        if self.state.folder is not None:
            self.state.folder.check_whole()
        kept = {key: value for key, value in self.__dict__.items() if key not in _OF_THIS_OBJECT}
        return {**kept, "state": {parameter: dict(state) for parameter, state in self.state.items()},
                "_names": self._names()}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        names, states = saved.pop("_names"), saved.pop("state")
        self.__dict__.update(saved)
        for name in [name for name in self.checks if name not in self.defaults]:         # options that came later
            self.defaults[name] = checks.off(self.checks[name])
            for group in self.param_groups:
                group.setdefault(name, self.defaults[name])
        self._prepare_to_step()
        self._state = StateMap()
        for parameter, name in zip(self._parameters(), names, strict=True):
            self.state.register(parameter, name)
            # NumPy copies a view of rows that stand in memory as columns into Fortran order.
            self.state[parameter].update({key: fitting(parameter, array, key in self.line_states)
                                          for key, array in states.get(parameter, {}).items()})

    def __repr__(self) -> str:
        lines = []
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}: {size_of(group['params'])}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key not in ("params", "param_names")]
        return f"{type(self).__name__} (\n" + "\n".join(lines) + "\n)"

    def _repr_html_(self) -> str:
        """For notebooks: a row for each group."""
        from .html import table

        keys = [key for key in self.param_groups[0] if key not in ("params", "param_names")]
        rows = [(index, size_of(group["params"]), *(group.get(key, "") for key in keys))
                for index, group in enumerate(self.param_groups)]
        return table(f"{type(self).__name__}: {size_of(self._parameters())}, {self.steps_taken:,} steps",
                     ("group", "holds", *keys), rows)


Optimizer.step = surrounded(Optimizer.step)  # type: ignore[method-assign]


def _listed(params: Any) -> Any:
    whole = (isinstance(params, (Parameter, np.ndarray, Mapping, str, bytes, np.generic, set, frozenset))
             or nesting.cure_of(params) != "")
    return params if whole or nesting.is_pair(params) or not hasattr(params, "__iter__") else list(params)


def size_of(parameters: Iterable[Parameter]) -> str:
    """2 parameters, 1,234 elements"""
    sizes = [parameter.data.size for parameter in parameters]
    return (f"{len(sizes):,} parameter{'s' * (len(sizes) != 1)}, {sum(sizes):,} element{'s' * (sum(sizes) != 1)}")


def _is_groups(params: Any) -> bool:
    return isinstance(params, list) and any(isinstance(item, Mapping) and "params" in item for item in params)
