"""Muon: what its iteration does to a matrix, what counts as one, and that a step is all or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.engine.whole_matrix import Update
from optimlite.optimizers.muon import POLAR_EXPRESS, orthogonal
from support.bits import assert_same
from support.helpers import values


@pytest.mark.parametrize("shape", [(30, 30), (60, 20), (20, 60)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    """Within [0.65, 1.25] for its coefficients, with the singular vectors of the gradient, in either orientation."""
    u, _, vt = np.linalg.svd(np.random.default_rng(0).standard_normal(shape), full_matrices=False)
    spread = np.linspace(0.1, 1, min(shape))
    matrix = (u * spread) @ vt
    x = orthogonal(matrix, [(3.4445, -4.775, 2.0315)] * 5, float(np.linalg.norm(matrix)))
    inner = u.T @ x @ vt.T
    assert abs(inner - np.diag(np.diag(inner))).max() < 1e-12
    assert np.diag(inner).min() > 0.65
    assert np.diag(inner).max() < 1.25


@pytest.mark.parametrize("adjust", [None, "original", "match_rms_adamw"])
@pytest.mark.parametrize("order", "CF")
def test_more_axes_count_as_a_matrix(order: Any, adjust: str | None) -> None:
    """shape[0] rows, and a column for each of the other elements, whatever the layout."""
    rng = np.random.default_rng(1)
    kernel = rng.standard_normal((6, 2, 3, 3))
    wide, flat = (ol.Muon([a], lr=0.1, adjust_lr_fn=adjust) for a in (np.array(kernel, order=order),
                                                                      kernel.reshape(6, 18).copy()))
    for _ in range(3):
        g = rng.standard_normal(kernel.shape)
        wide.step(grads=[g])
        flat.step(grads=[g.reshape(6, 18)])
    assert np.array_equal(wide._parameters()[0].data.reshape(6, 18), flat._parameters()[0].data)
    assert wide.state["0"]["momentum_buffer"].shape == kernel.shape


@pytest.mark.parametrize("steps", [0, 2])
def test_an_update_that_fails_leaves_everything(steps: int) -> None:
    class Failing(ol.Muon):
        fails = False

        def update(self, group: Any, p: np.ndarray, *rest: Any) -> list[Update]:
            if self.fails and len(p) == 2:
                raise MemoryError("as it should")
            return super().update(group, p, *rest)

    optimizer = Failing([np.ones((3, 2)), np.ones((2, 2))])
    grads = [np.ones((3, 2)), np.ones((2, 2))]
    for _ in range(steps):
        optimizer.step(grads=grads)
    before = values(optimizer)
    optimizer.fails = True
    with pytest.raises(MemoryError, match="as it should"):
        optimizer.step(grads=grads)
    assert values(optimizer) == before
    optimizer.fails = False
    optimizer.step(grads=grads)
    assert values(optimizer) != before


def test_a_gradient_may_lie_in_another_parameter() -> None:
    """f = sum(x * y) gives y as x's gradient: both updates come from the values before the step."""
    x, y = np.ones((2, 2)), np.full((2, 2), 3.0)
    shared, apart = (ol.Muon([x.copy(), y.copy()], lr=0.1) for _ in range(2))
    p, q = shared._parameters()
    shared.step(grads=[q.data, p.data])
    apart.step(grads=[y, x])
    assert_same(shared, apart)


@pytest.mark.parametrize("shape", [(), (5,)])
def test_what_is_no_matrix_is_refused(shape: tuple[int, ...]) -> None:
    vector = np.ones(shape)
    with pytest.raises(ValueError, match=r"'b' must have at least two axes for Muon, got shape .*; give it to AdamW, in a group"):
        ol.Muon({"W": np.ones((2, 2)), "b": vector})
    optimizer = ol.Muon({"W": np.ones((2, 2))})
    with pytest.raises(ValueError, match="'b' must have at least two axes"):
        optimizer.add_param_group({"params": {"b": vector}})
    assert len(optimizer.param_groups) == 1
    optimizer.step(grads={"W": np.ones((2, 2))})
