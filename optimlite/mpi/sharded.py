"""An optimizer whose state is spread over ranks: each steps its share, and all get the parameters."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import Signature, signature
from typing import Any, NoReturn

import numpy as np

from .. import checks, swapping
from ..engine import parts as of_parts
from ..engine import ranks
from ..engine.formats import widened
from ..engine.gradient_options import DEFAULT, GradientOptions, checked_options, clip_coefficient, zero_gradients
from ..engine.halves import gradient_of
from ..engine.memory import Memory, bytes_of
from ..engine.offload import offload as keep_in_files
from ..engine.parts import Part
from ..engine.state import StateMap
from ..engine.state_dict import Mismatch
from ..engine.wrapper import Wrapper
from ..optimizers.lookahead import Lookahead
from . import safety
from .leaves import Leaves
from .reduction import Flat, check_order, flat
from .shares import Tensor, assigned
from .totals import Totals
from .traffic import Traffic


class Sharded(Wrapper):
    """An optimizer over many ranks, of which each keeps the state of its share (ZeRO, stage 1).

    A step sums the gradients of all ranks, each rank steps its share, and all get the new parameters.  Every rank makes
    the same model and the same optimizer, and calls `step` as often as the others.

        opt = mpi.Sharded(ol.AdamW(params), MPI.COMM_WORLD)         # import optimlite.mpi as mpi

    optimizer: what steps: any with a compiled rule but SparseAdam, or a Lookahead of one.  Its state, if it has
        some, is spread.
    comm: an mpi4py communicator, by default MPI.COMM_WORLD; or one of `optimlite.mpi.simulate`.
    reduce: "mean" of the gradients, or "sum".
    order: "rank" sums in the order of ranks: the same bits in every run and with every MPI library.  "fast" leaves the
        order to the library.  "leaves:K" sums the gradients of K micro-batches, K / ranks of them from each rank by
        `leaf`, in a binary tree: the same bits for every number of ranks, if those of the leaves' gradients are.
    check_every: steps from one comparison of hyper-parameters and counts over all ranks to the next, the first one
        first; None: never.    check_parameters: compares the parameters then, too.

    A gradient that is None on some ranks counts as zeros there; a parameter that has none on any rank is skipped.
    Clipping, `skip_nonfinite` and `last_grad_norm` are about the gradient of all ranks together.  Where one rank fails,
    no rank steps, and all raise; where a hook behind the step does, all have stepped.  Elementwise rules have their
    large tensors cut, at multiples of 16,384 elements, and so have those with numbers of whole groups (Prodigy, DoG);
    others get whole tensors.

    State: `opt.state[name]` has this rank's part.  `optimlite.mpi.save` and `restore` write and read one file of all.
    Raises TypeError and ValueError for optimizers that can't be spread and for what `order` or `reduce` can't be,
    ImportError without mpi4py or an MPI library, and RankError where ranks differ, naming the rank and what differs.

        >>> def train(comm):
        ...     w = np.array([1.0, -2.0])
        ...     opt = mpi.Sharded(ol.SGD([w], lr=0.25), comm)
        ...     opt.step(grads=[2 * w * comm.rank])      # the mean over ranks 0, 1, 2: 2 * w
        ...     return w.tolist()
        >>> mpi.simulate(3, train)
        [[0.5, -1.0], [0.5, -1.0], [0.5, -1.0]]
    """

    steps_another = False                        # it is this step that hooks are around,
    steps_alone = False                          # and that all ranks end together
    restored_by = "optimlite.mpi.restore, on every rank"
    own = ("comm", "reduce", "order")

    def __init__(self, optimizer: Any, comm: Any = None, reduce: str = "mean", order: str = "rank", *,
                 check_every: int | None = 100, check_parameters: bool = False) -> None:
        self.comm = comm = safety.communicator(comm)
        fault = None
        try:
            super().__init__(optimizer)
            check_method(self)
            self.reduce = checks.one_of("mean", "sum")("reduce", reduce)
            leaves = check_order(order, comm.size)
            self.order = order
            self._every = None if check_every is None else checks.count("check_every", check_every)
            self._with_values = checks.flag("check_parameters", check_parameters)
        except (TypeError, ValueError) as caught:
            fault = caught
        ranks.agree(comm, "`mpi.Sharded`", fault)
        self.summed = leaves or comm.size        # gradients in a sum
        self._leaves = Leaves(self.summed // comm.size)
        self._all = [parameter for group in self.param_groups for parameter in group["params"]]
        over = f"{len(self._all)} parameter{'s' * (len(self._all) != 1)}"
        self._doing = f"`step` of {type(optimizer).__name__} over {over}"
        self._behind = f"hooks behind {self._doing}"
        self._called = [self.optimizer.state.name_of(parameter) for parameter in self._all]
        self._compare(safety.of_layout(self._all, self._called), "make the same model on each")
        self._compare(safety.of_values(self._all, self._called),
                      "call optimlite.mpi.broadcast(params) before, which gives all those of rank 0")
        self._group_of = [group for group in self.base.param_groups for _ in group["params"]]
        shares = assigned([Tensor(p.data.size, p.dtype.itemsize, cuttable) for p, cuttable
                           in zip(self._all, self._cuttable(), strict=True)], comm.size)
        self.mine = {at: Part(self._all[at], self._called[at], start, stop) for at, start, stop in shares[comm.rank]}
        self.share = of_parts.over_parts(self.base, [
            [part for at, part in self.mine.items() if self._group_of[at] is group] for group in self.param_groups])
        of_parts.load(self.share, self.optimizer, self.optimizer.state_dict(copy=False), True)
        self.optimizer.state.clear()
        self._made_for: Any = None               # options that say which tensors may be cut
        self._traffic = Traffic(comm, self._all, shares, self.mine)
        self._reserved: set[bytes] = set()       # steps that there is memory for, by which parameters have gradients
        self._commit = safety.Commit(comm)
        self._hooked = self._in_files = False    # whether a rank has hooks around its steps, and state in files
        self._totals = Totals(comm, self.optimizer, self.base, self.mine)
        self._asks = comm.size > 1 and self._totals.needed()
        if self._asks:
            self.share.over = self._totals

    def _cuttable(self) -> list[bool]:
        return [of_parts.divisible(self.base, group, parameter, name) for group, parameter, name
                in zip(self._group_of, self._all, self._called, strict=True)]

    def _compare(self, entries: Iterator[ranks.Entry], cure: str) -> None:
        ranks.compare(self.comm, entries, cure)

    def offload(self, folder: Any) -> None:
        """Keeps each rank's share of the state in files from now on; every rank calls it.  See Optimizer.

        folder: of this rank, or of all ranks: the files have no names.

        Where one rank can't, the others raise RankError; nothing is changed then.
        """
        ranks.agree(self.comm, "`offload`", None)
        self._compare(iter([("whether state is to be in files", folder is not None)]),
                      "call offload(folder) on all, or offload(None)")
        late = self._commit.run("`offload`", lambda: keep_in_files(self.share, folder, self._commit.meet))
        if late is not None:
            raise late

    # Stepping --------------------------------------------------------------------------------------------------------

    def leaf(self, grads: Any = None) -> None:
        """Takes the gradients (or `grads`) of a micro-batch of this rank, for the order "leaves:K"; drops each `.grad`.

        The last one may be left to `step`.  What it raises, it raises on this rank alone.
        """
        self._leaves.check()
        if grads is not None:
            self._assign(grads)
        of_parts.check_gradients(self.base, False)
        self._leaves.add(self._gradients())
        self.zero_grad()

    def _gradients(self) -> list[Flat | None]:
        return [None if gradient is None else flat(gradient, parameter.data) for parameter, gradient
                in zip(self._all, map(gradient_of, self._all), strict=True)]

    def step(self, closure: Callable[[], Any] | None = None, *, grads: Any = None,       # type: ignore[override]
             grad_scale: float = 1.0, max_grad_norm: float | None = None, max_grad_value: float | None = None,
             skip_nonfinite: bool = False, zero_grad: bool = False) -> Any:
        """Steps all ranks by their gradients together; the arguments are those of the optimizer's own `step`.

        Every rank calls it, with the same options.  `closure` and `grads` are this rank's; so is the loss that comes
        back.  Where one rank raises, the others raise RankError; parameters and state are as before then,
        and leaves are to be given again, from the first.
        """
        given = grad_scale, max_grad_norm, max_grad_value, skip_nonfinite, zero_grad
        try:
            return self._together(closure, grads, given)
        finally:
            self._leaves.forget()

    def _call_before(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            args, kwargs = super()._call_before(args, kwargs)
            of_step().bind(*args, **kwargs)      # before all ranks wait for one that can't begin
            return args, kwargs
        except BaseException as fault:
            self._agree(fault)                   # where others are when they ask first
            raise

    def _call_after(self, args: Any, kwargs: Any) -> None:
        if self._hooked:
            fault = None
            try:
                super()._call_after(args, kwargs)
            except BaseException as caught:
                fault = caught
            ranks.agree(self.comm, self._behind, fault)

    def _agree(self, fault: BaseException | None, flags: Sequence[bool] = (), options: bytes = bytes(8)) -> np.ndarray:
        """What ranks tell each other before a step: whether they have hooks, have state in files, and are due to
        compare; which gradients they have; and their options.
        """
        flags = flags or [False] * len(self._all)
        compares = self._every is not None and self.steps_taken % self._every == 0
        asks = self._has_step_hooks(), self.share.state.folder is not None, compares
        return ranks.agree(self.comm, self._doing, fault, [*asks, *flags], options)

    def _together(self, closure: Callable[[], Any] | None, grads: Any, given: tuple[Any, ...]) -> Any:
        loss, options, fault = None, DEFAULT, None
        gradients: list[Flat | None] = [None] * len(self._all)
        try:
            options = checked_options(given)
            if closure is not None:
                loss, grads = self._evaluate(closure, grads)
            if grads is not None:
                self._assign(grads)
            of_parts.check_gradients(self.base, options.zero_grad)
            self._follow_groups()
            gradients = self._leaves.finished(self._gradients())
        except BaseException as caught:
            fault = caught
        told = ranks.digest(("", options)).to_bytes(8, "little")
        rows = self._agree(fault, [g is not None for g in gradients], told)
        (self._hooked, self._in_files, compares), rows = map(bool, np.asarray(rows[:, :3].any(axis=0))), rows[:, 3:]
        flags = np.asarray(rows[:, :len(self._all)].any(axis=0))
        if (rows[:, len(self._all):] != rows[0, len(self._all):]).any():
            self._compare(iter([("the options of `step`", options)]), "call step() with the same ones on each")
        if compares:                             # on one rank, and so on all
            self._check()
        self._step(gradients, flags, options)
        if options.zero_grad:
            zero_gradients(self._all)
        if not flags.any() and not self._warned:
            self._warned = True
            warnings.warn("step() changed nothing: no parameter has a gradient on any rank; assign p.grad, or pass "
                          "grads=", stacklevel=4)
        return loss

    def _follow_groups(self) -> None:
        """Gives the share the hyper-parameters as they are now."""
        of_parts.follow(self.share, self.base)
        made_for = [{key: value for key, value in group.items() if key not in ("params", "lr")}
                    for group in self.param_groups]
        if made_for != self._made_for:
            for at, cuttable in enumerate(self._cuttable()):
                part = self.mine.get(at)
                if not cuttable and part is not None and part.data.size < part.tensor_size:
                    raise ValueError(f"'{self._called[at]}' is spread over ranks, and an option of its group has been "
                                     f"set that needs the whole tensor; set it before Sharded(...) is made")
            self._made_for = made_for

    def _step(self, gradients: list[Flat | None], flags: np.ndarray, options: GradientOptions) -> None:
        if self.comm.size == 1 and self._leaves.each == 1:
            for at, part in self.mine.items():
                part.grad = self._all[at].grad
        else:
            if self.comm.size > 1 and (key := flags.tobytes()) not in self._reserved:
                ranks.together(self.comm, self._doing, lambda: self._traffic.reserve(flags))
                self._reserved.add(key)          # the flags are those of all ranks, so all go this way or none
            self._traffic.sum(gradients, flags, self.order)
        follower = self._commit.follower = self.share.follower
        try:
            factor = self._factor(options)
            if factor is None:
                self.skipped_steps += 1
                return
            self.share.follower = self._commit   # type: ignore[assignment]
            late = self._commit.run(self._doing, lambda: of_parts.step(self.share, factor, options.max_grad_value))
            self._all_whole(late)
            if self._asks and flags.any():
                self._totals.end(flags)
            self._traffic.spread(flags)
            if late is not None:
                self.steps_taken += 1
                if options.zero_grad:
                    zero_gradients(self._all)
                if self._hooked:                 # where the others are next
                    ranks.agree(self.comm, self._behind, None)
                raise late
        finally:
            self.share.follower, self._commit.follower = follower, None
            for part in self.mine.values():
                part.grad = None

    def _all_whole(self, late: BaseException | None) -> None:
        """Raises what has broken a step off, as no interrupt does; where a disk failed on one rank, all raise."""
        fault, folder = late if isinstance(late, Exception) else None, self.share.state.folder
        if not self._in_files:
            if fault is not None:
                raise fault
            return
        try:
            ranks.agree(self.comm, f"files of {self._doing}", fault)
        except BaseException as caught:
            if folder is not None:
                folder.torn = folder.torn or str(caught)
            raise

    def _factor(self, options: GradientOptions) -> float | None:
        """What multiplies the sums, or None to skip the step, equal on all ranks."""
        scale = options.grad_scale / self.summed if self.reduce == "mean" else options.grad_scale
        self.last_grad_norm = None
        if options.max_grad_norm is None and not options.skip_nonfinite:
            return scale
        norm = self.last_grad_norm = scale * self._traffic.norm(of_parts.order_of_norm(self.base))
        if options.skip_nonfinite and not math.isfinite(norm):
            return None
        return scale if options.max_grad_norm is None else scale * clip_coefficient(options.max_grad_norm, norm)

    def _check(self) -> None:
        counts = [("`steps_taken`", self.steps_taken), ("`skipped_steps`", self.skipped_steps)]
        self._compare(iter([*safety.of_groups(self.param_groups), *counts]),
                      "change hyper-parameters, and load checkpoints, on all ranks alike")
        if self._with_values:
            self._compare(safety.of_values(self._all, self._called), "only steps may change parameters; call "
                          "optimlite.mpi.broadcast(params) after other changes")

    # State -----------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> StateMap:
        """This rank's part of the state, by the parameters' names; an empty dict that is assigned forgets it."""
        return self.share.state

    @state.setter
    def state(self, state: Mapping[Any, Any]) -> None:
        self.share.state = state                 # type: ignore[assignment]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Mismatch:
        """Takes this rank's part of a state dict of the whole optimizer, which every rank has; see Optimizer."""
        return of_parts.load(self.share, self.optimizer, state_dict, strict)

    def state_dict(self, copy: bool = True, *, dtype: str | None = None) -> NoReturn:
        raise TypeError("the state of Sharded is spread over ranks, and no rank has a state dict of all; call "
                        "optimlite.mpi.save(path, optimizer=opt) on every rank, or optimlite.mpi.gathered(opt)")

    def memory(self) -> Memory:
        """Bytes on this rank: all parameters and gradients, and the state of its share."""
        own = self.share.memory()
        return Memory(sum(p.data.size for p in self._all), sum(p.data.nbytes for p in self._all),
                      sum(bytes_of(p.grad) for p in self._all), own.state, own.in_files)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """As that of schedule-free optimizers, on all ranks at once."""
        ranks.together(self.comm, "`swapped`", lambda: of_parts.unlocked_parameters(self.base))
        every, own = np.ones(len(self._all), bool), [p.data.copy(order="K") for p in self._all]
        try:
            with self.share.swapped():           # type: ignore[attr-defined]
                self._traffic.spread(every)
                averages = [widened(p.data).copy(order="K") for p in self._all]
        finally:                                 # each rank has its own: nothing is exchanged at the end
            for parameter, values in zip(self._all, own, strict=True):
                parameter.data = values
        del own
        yield from swapping.held(swapping.Swap(*swapping.with_shadows(self._all, averages)))

    # What can't be had -----------------------------------------------------------------------------------------------

    def _refused(self, what: str) -> NoReturn:
        raise TypeError(f"Sharded has no `{what}`: its shares were made for the parameters, and their steps, as they "
                        f"are; use it on the optimizer before Sharded(...) is made")

    def add_param_group(self, param_group: Any) -> NoReturn: self._refused("add_param_group")
    def remove(self, parameter: Any) -> NoReturn: self._refused("remove")
    def replace(self, parameter: Any, new: Any, rows: Any = None) -> NoReturn: self._refused("replace")
    def watch(self, every: int | None = 50, *, parameters: bool = False) -> NoReturn: self._refused("watch")
    def step_parameter(self, parameter: Any, grad: Any, **options: Any) -> NoReturn: self._refused("step_parameter")


@functools.cache
def of_step() -> Signature:
    return signature(Sharded.step)


def check_method(wrapper: Sharded) -> None:
    """Raises TypeError for an optimizer whose state can't be spread."""
    method, name = wrapper.base, type(wrapper.optimizer).__name__
    if wrapper.optimizer is not method and not isinstance(wrapper.optimizer, Lookahead):
        raise TypeError(f"`optimizer` can't be a {name}; give what it wraps")
    if method.state.folder is not None:
        raise TypeError("`optimizer` has its state in files, of which there are no shares; call opt.offload(None) "
                        "before, and offload(folder) of Sharded")
    if not method.accepts_dense:
        raise TypeError(f"`optimizer` can't be {name}, whose gradients are sparse; use Adam")
    for parameter in (parameter for group in method.param_groups for parameter in group["params"]):
        of_parts.check_plain(parameter, method.state.name_of(parameter))
