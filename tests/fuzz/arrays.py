"""Fuzzing of arrays: parameters and gradients of any dtype, shape, strides, order and overlap. `make fuzz` runs it."""

from __future__ import annotations

import copy
from typing import Any

from frame import Source, done, image, np, ol, run
from groups import same

from optimlite import reference
from support.helpers import parameters

KINDS = [ol.SGD, ol.Adam, lambda p: ol.SGD(p, momentum=0.9), ol.Adagrad, lambda p: ol.RMSprop(p, centered=True),
         ol.Rprop]
SHAPES = [(3, 4), (5,), (), (33,), (4, 3)]


def parameter(source: Source, given: list[np.ndarray]) -> ol.Parameter:
    """A parameter made of any array, or of a fit one where that is refused."""
    like = np.ones(source.pick(SHAPES), source.pick(["f4", "f8"]))
    array = source.array(like, given)
    given.append(array)
    made: list[ol.Parameter] = []
    if not done(lambda: made.append(ol.Parameter(array)), lambda: image(array)):
        made.append(ol.Parameter(like))
        given.append(like)
    [p] = made
    if not np.shares_memory(p.data, p.data.base if p.data.base is not None else p.data) and p.size:
        raise RuntimeError("a parameter has copied its array")
    return p


def gradient(source: Source, p: ol.Parameter, given: list[np.ndarray]) -> Any:
    kind = source.below(16)
    if kind == 15:
        return source.value(2)
    if kind == 14:
        return None
    if kind == 13:
        indices = source.array(np.zeros(3, np.int64))
        try:
            return ol.SparseGrad(indices, source.array(np.ones((len(np.atleast_1d(indices)), *p.shape[1:]), p.dtype)))
        except (TypeError, ValueError):
            return None
    return source.array(p.data, given)


def act(source: Source, optimizer: ol.Optimizer, given: list[np.ndarray]) -> None:
    """One call that takes arrays; steps are compared with the twin."""
    ours = parameters(optimizer)
    p, what = source.pick(ours), source.below(10)

    def watched() -> Any:
        return image(optimizer), image(given)

    if what < 4:
        value = gradient(source, p, given)
        done(lambda: setattr(p, "grad", value), watched)
    elif what == 4:
        value = gradient(source, p, given)
        done(lambda: p.accumulate_grad(value), watched)
    elif what == 5:
        value = gradient(source, p, given)
        done(lambda: setattr(p, "data", value), watched)
    elif what == 6:
        done(lambda: optimizer.zero_grad(set_to_none=False), watched)
    elif what == 7:
        clip = source.pick([lambda: ol.clip_grad_norm_(ours, 0.5), lambda: ol.clip_grad_value_(ours, 0.1)])
        done(clip, watched)
    else:
        options = source.pick([{}, {"max_grad_norm": 0.5}, {"max_grad_value": 0.1, "grad_scale": 0.5},
                               {"skip_nonfinite": True}, {"zero_grad": True, "max_grad_norm": 1.0}])
        grads = [gradient(source, p, given) for p in ours] if source.below(2) else None
        step(optimizer, grads, options, given)


def step(optimizer: ol.Optimizer, grads: Any, options: dict[str, Any], given: list[np.ndarray]) -> None:
    """A refused step may have replaced `.grad` already, and nothing else."""
    twin, theirs = copy.deepcopy((optimizer, grads))
    if done(lambda: optimizer.step(grads=grads, **options), lambda: (image(optimizer)[::2], image(given))):
        if theirs is not None:
            for p, g in zip(parameters(twin), theirs, strict=True):
                p.grad = g
        reference.step(twin, **{**options, "zero_grad": False})
        if not same(optimizer, twin):
            raise RuntimeError("a step differs from its twin")


def one(data: bytes) -> None:
    source = Source(data)
    given: list[np.ndarray] = []
    params = [parameter(source, given) for _ in range(1 + source.below(3))]
    made: list[ol.Optimizer] = []
    if not done(lambda: made.append(source.pick(KINDS)(params)), lambda: image(given)):
        made.append(ol.SGD(params[:1]))          # they overlap
    for _ in range(1 + source.below(6)):
        act(source, made[0], given)


if __name__ == "__main__":
    run(one)
