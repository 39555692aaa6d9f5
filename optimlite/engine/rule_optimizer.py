"""An optimizer with a compiled rule: its step is one native call over all groups, whole or not at all."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, ClassVar, Unpack

from .. import checks
from ..native.gradients import BoundGradients
from ..native.parameters import AddressRanges, Stepping
from ..native.steps import bind, changed, run_step
from .follower import Follower
from .gradient_options import DEFAULT, UNSCALED, GradientOptions, GradientPass, checked_options
from .group_plan import Created, GroupPlan, SparseGroupPlan
from .method import Group, Recipe
from .optimizer import Optimizer
from .parameter import Parameter
from .state import check_distinct
from .storage import CHECKS as STORAGE
from .storage import Storage, counts_to_round


class RuleOptimizer(Optimizer):
    """The base of optimizers with a compiled rule: a subclass overrides `rule` and `coefficients`.

    CONTRIBUTING.md says what belongs to one, docs/architecture.md how a step flows.
    """

    accepts_dense: ClassVar[bool] = True                 # else sparse gradients alone
    single_pass: ClassVar[bool] = True                   # one native call reads the gradients, so it may zero them, too
    unsigned_states = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "acc_delta", "sum", "variance", "exp_inf",
                       "exp_avg_var")
    options = STORAGE
    writes_shadows = True
    takes_halves = True
    over: Callable[[list[Any]], list[Any]] | None = None # what makes a group's sums those of all ranks

    def __init__(self, params: Any, defaults: Mapping[str, Any], **storage: Unpack[Storage]) -> None:
        super().__init__(params, {**defaults, **storage})

    def _prepare_to_step(self) -> None:
        super()._prepare_to_step()
        self._plans: list[GroupPlan] = []
        self._bound = BoundGradients()
        self._stepping = Stepping()
        self.follower: Follower | None = None            # what a step ends with

    def _rearranged(self) -> None:
        super()._rearranged()
        self._plans, self._bound = [], BoundGradients()
        if self.follower is not None:
            self.follower.forget()

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        plans = self._plans
        current = bool(plans) and changed(plans, self.param_groups, self._state.version) is None
        super().add_param_group(param_group)
        if current:                              # the others' plans hold still, and the new group was checked
            for plan in plans:
                plan.remember(self._state.version)
            made = self._make_plan(self.param_groups[-1])
            made.params = made.group["params"]
            self._plans = [*plans, made]

    def step(self, closure: Callable[[], Any] | None = None, *, grads: Any = None, grad_scale: float = UNSCALED,
             max_grad_norm: float | None = None, max_grad_value: float | None = None, skip_nonfinite: bool = False,
             zero_grad: bool = False) -> Any:
        """Updates every parameter that has a gradient, in place; returns the closure's loss, or None.

            g = grad_scale * grad
            g = g * min(1, max_grad_norm / (norm + 1e-6))       norm: of all groups' g together, 2-norm
            g = clip(g, -max_grad_value, max_grad_value)

        `closure`: clears the gradients, computes and returns the loss, or `(loss, grads)`.  `grads`: gradients in the
        nesting of the parameters or as a dict by name; they replace every `.grad`, None skips.  Parameters whose
        gradient is None are skipped and their state stands still.  Everything is checked before anything is changed.

        `grad_scale` (> 0): 1 / loss scale, or 1 / number of accumulated micro-batches.  `skip_nonfinite`: a step whose
        norm is infinite or NaN changes no parameter and no state, and adds 1 to `skipped_steps`; without it such a norm
        spoils the parameters, as in torch.  `zero_grad`: leaves zeros in the gradients, after a skipped step too;
        raises ValueError where `zero_grad(set_to_none=False)` does.  Nothing else modifies gradients.
        `last_grad_norm` is the norm before clipping, of the unscaled gradients; None if neither `max_grad_norm` nor
        `skip_nonfinite` asked for it.
        """
        options = DEFAULT
        if (grad_scale is not UNSCALED or max_grad_norm is not None or max_grad_value is not None
                or skip_nonfinite is not False or zero_grad is not False):
            options = checked_options((grad_scale, max_grad_norm, max_grad_value, skip_nonfinite, zero_grad))
        loss = None
        if closure is not None:
            loss, grads = self._evaluate(closure, grads)
        if grads is not None:
            self._assign(grads)
        self._update(options)
        return loss

    def _update(self, options: GradientOptions = DEFAULT) -> None:
        with self._stepping:
            if changed(self._plans, self.param_groups, self._state.changes.count) is not None:
                self._renew()
            groups = self._plans
            bind(self, groups, self._memory or self._survey())
            self.last_grad_norm = gradients = probe = launches = None
            factor: float | None = 1.0
            max_abs, zero_in_sweep, swept, folder = inf, False, False, self._state.folder
            if options is not DEFAULT:
                plans = [plan for group in groups for plan in group.plans]
                gradients = GradientPass(options, plans, self._bound, self.single_pass)
                if gradients.zero_later:
                    self._check_zeroing(gradients.zero_later)
                factor, max_abs, zero_in_sweep = gradients.scale_factor(), gradients.max_abs, gradients.zero_in_sweep
                self.last_grad_norm = gradients.norm
            if self._watch is not None:
                plans = [plan for group in groups for plan in group.plans]
                probe = self._watch.before(self, plans, options.grad_scale, factor is None)
            if factor is None:
                self.skipped_steps += 1
            elif folder is not None:
                from .streaming import step  # few programs have state in files

                launches = step(self, folder, groups, factor, options.max_grad_value, probe)
            if factor is not None and launches is None:
                created: list[Created] = []
                launches = run_step(self, groups, created, factor, max_abs, zero_in_sweep, probe)
                swept = True
                if created:
                    self._memory = None
                    if folder is not None:
                        folder.stream = None
                if self._watch is not None:
                    self._watch.after(self)
            if gradients is not None:
                gradients.zero(stepped=swept)
        if launches == 0 and not self._warned:
            self._warned = True
            warnings.warn("step() changed nothing: no parameter has a gradient; assign p.grad, or pass grads=",
                          stacklevel=4)

    def watch(self, every: int | None = 50, *, parameters: bool = False) -> None:
        """Measures one step in `every` for `metrics()`, beginning with the next; None ends it.

        every: the steps from one measured to the next.  A measured step takes a fifth (large models) to three quarters
            longer, and up to four times as long with many arrays of a few elements; the others cost nothing.
        parameters: also measures each parameter by itself.
        """
        from .metrics import Watch  # most programs never ask

        by_name = checks.flag("parameters", parameters)
        self._watch = None if every is None else Watch(checks.count("every", every), by_name, self.single_pass)

    def _renew(self) -> None:
        """Checks what has changed since the last step, and makes plans of it."""
        version = self.state.version
        others = changed(self._plans, self.param_groups, version) or []
        if len(self._plans) != len(self.param_groups):
            self._plans = [self._make_plan(group) for group in self.param_groups]
        self._refresh([self._plan_of(index) for index in others])
        if self._version != version:
            self._version, self._memory = version, None

    def _plan_of(self, index: int) -> GroupPlan:
        if self._plans[index].group is not self.param_groups[index]:
            self._plans[index] = self._make_plan(self.param_groups[index])
        return self._plans[index]

    def _refresh(self, plans: list[GroupPlan]) -> None:
        if any([plan.has_others() for plan in plans]):           # a list: each makes a tuple of its own, too
            self.check_parameters()
        before = [plan.plans for plan in plans]
        for plan in plans:
            plan.refresh(self)
        if any(plan.plans is not old for plan, old in zip(plans, before, strict=True)):
            self._bound = BoundGradients()               # which would hold the old ones, and their state

    def _survey(self) -> AddressRanges:
        memory = AddressRanges(self.state.arrays())
        if memory.overlapping:
            check_distinct(self.state.labels(), self.state.arrays())
        self._memory = memory
        return memory

    def _make_plan(self, group: Group) -> GroupPlan:
        return GroupPlan(self, group) if self.accepts_dense else SparseGroupPlan(self, group)

    # What a method with a compiled rule says of itself ---------------------------------------------------------------

    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        return dict.fromkeys(self.initial_state(group, parameter), parameter.shape)

    def initial_state(self, group: Group, parameter: Parameter) -> dict[str, float]:
        return self.rules(group)[self.which_rule(parameter)][1]

    def scalars_of(self, group: Group) -> Mapping[str, float | int]:
        return {"step": 0, **self.scalars} if counts_to_round(self, group) else self.scalars

    def rule(self, group: Group) -> Recipe:
        """The name of the compiled rule for a group, and its state arrays: name and initial value, in slot order."""
        raise NotImplementedError(f"{type(self).__name__} must override `step`, or `rule` and `coefficients`")

    def rules(self, group: Group) -> tuple[Recipe, ...]:
        """The rules of a group, where its parameters have different ones; all take the same coefficients."""
        return (self.rule(group),)

    def which_rule(self, parameter: Parameter) -> int:
        """The place in `rules` of a parameter's rule."""
        return 0

    def rows_of(self, group: Group, parameter: Parameter) -> int:
        """How many equal parts, side by side in C order, a parameter has, where the rule works by rows."""
        raise NotImplementedError(f"{type(self).__name__} must override `rows_of`, since its rule works by rows")

    def first_rule(self, group: Group) -> str | None:
        """The rule of a parameter's first step, where that is another one; it has the same state."""
        return None

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        """The finished coefficients of the rule, in float64.

        `state` holds the scalar state of parameters that step together; the method advances it.  `first` says that they
        step for the first time.
        """
        raise NotImplementedError(f"{type(self).__name__} must override `coefficients`")

    def whole(self, group: Group) -> bool:
        """Whether a group's parameters step by an `update` of whole matrices."""
        return False

    def leaves_zero_rows_unchanged(self, group: Group) -> bool:
        """Whether the rule leaves a row alone whose gradient is zero; then a sparse gradient costs the rows it touches.

        Where False, a sparse gradient is made dense first.  Raises TypeError or ValueError where none is taken.
        """
        raise TypeError(f"{type(self).__name__} takes no sparse gradients; use SparseAdam, SGD or Adagrad, or make it "
                        f"dense with gradient.to_dense(len(parameter))")
