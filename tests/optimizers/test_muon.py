"""Muon and NorMuon: what the iteration does to a matrix, what counts as one, AdamW's groups, all or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.engine.whole_matrix import Update
from optimlite.optimizers.muon import POLAR_EXPRESS, orthogonal
from support.bits import assert_same, same_bits
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
    with pytest.raises(ValueError, match=r"'b' must have at least two axes for Muon, .*; give it to AdamW, in a group"):
        ol.Muon({"W": np.ones((2, 2)), "b": vector})
    optimizer = ol.Muon({"W": np.ones((2, 2))})
    with pytest.raises(ValueError, match="'b' must have at least two axes"):
        optimizer.add_param_group({"params": {"b": vector}})
    assert len(optimizer.param_groups) == 1
    optimizer.step(grads={"W": np.ones((2, 2))})


# Options -------------------------------------------------------------------------------------------------------------

def test_the_iteration_is_its_polynomials_of_the_singular_values() -> None:
    """The formula once more, by the SVD, for Polar Express: X = U p5(... p1(s / (1.02 |u| + eps))) V^T."""
    u = np.random.default_rng(2).standard_normal((7, 4))
    W = np.zeros((7, 4))
    ol.Muon([W], lr=0.5, weight_decay=0, momentum=0, nesterov=False, eps=0.01, ns_coefficients="polar_express",
            adjust_lr_fn="spectral_norm").step(grads=[u])
    left, s, right = np.linalg.svd(u, full_matrices=False)
    s = s / (1.02 * np.linalg.norm(s) + 0.01)
    for a, b, c in POLAR_EXPRESS:
        s = a * s + b * s**3 + c * s**5
    np.testing.assert_allclose(W, -0.5 * np.sqrt(7 / 4) * (left * s) @ right, rtol=0, atol=1e-13)
    assert abs(s - 1).max() < 0.2


def test_polar_express_comes_closer_to_one_than_the_default() -> None:
    u, _, vt = np.linalg.svd(np.random.default_rng(0).standard_normal((30, 20)), full_matrices=False)
    matrix = (u * np.geomspace(1e-2, 1, 20)) @ vt
    off = [abs(np.linalg.svd(orthogonal(matrix.copy(), each, float(np.linalg.norm(matrix))))[1] - 1).max()
           for each in (POLAR_EXPRESS, [(3.4445, -4.775, 2.0315)] * 5)]
    assert off[0] < 0.5 * off[1]


@pytest.mark.parametrize("make", [ol.Muon, ol.NorMuon])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_groups_of_adamw_are_adamw(make: Any, clip: float | None) -> None:
    """Their bits, beside matrices in the same step, and clipped by the norm of all."""
    rng = np.random.default_rng(3)
    start = {"W": rng.standard_normal((4, 3)), "b": rng.standard_normal(3), "E": rng.standard_normal((5, 2))}
    ours, alone, matrices = ({key: value.copy() for key, value in start.items()} for _ in range(3))
    both = make([{"params": {"W": ours["W"]}, "lr": 0.1},
                 {"params": {"b": ours["b"], "E": ours["E"]}, "use_muon": False, "lr": 0.01, "betas": (0.8, 0.9),
                  "weight_decay": 0.1, "eps": 1e-4}])
    adamw = ol.AdamW({"b": alone["b"], "E": alone["E"]}, lr=0.01, betas=(0.8, 0.9), weight_decay=0.1, eps=1e-4)
    muon = make({"W": matrices["W"]}, lr=0.1)
    for _ in range(4):
        grads = {key: rng.standard_normal(value.shape) for key, value in start.items()}
        both.step(grads=grads, max_grad_norm=clip)
        scale = 1.0 if clip is None else min(1.0, clip / (both.last_grad_norm + 1e-6))
        adamw.step(grads={key: grads[key] for key in ("b", "E")}, grad_scale=scale)
        muon.step(grads={"W": grads["W"]}, grad_scale=scale)
    assert all(np.array_equal(ours[key], alone[key]) for key in ("b", "E"))
    assert np.array_equal(ours["W"], matrices["W"])
    assert "step" not in both.state["W"]
    assert both.state["b"]["step"] == 4


def test_a_vector_can_not_come_into_a_group_of_matrices() -> None:
    """Neither by the group's own option, nor from another group."""
    optimizer = ol.Muon([{"params": {"W": np.ones((2, 2))}}, {"params": {"b": np.ones(2)}, "use_muon": False}])
    optimizer.step(grads={"W": np.ones((2, 2)), "b": np.ones(2)})
    before = values(optimizer)
    optimizer.param_groups[1]["use_muon"] = True
    with pytest.raises(ValueError, match="'b' must have at least two axes for Muon"):
        optimizer.step()
    assert values(optimizer) == before
    optimizer.param_groups[1]["use_muon"] = False
    optimizer.step()


def test_older_state_dicts_are_muons_alone() -> None:
    """Those of torch, and of versions without AdamW's groups."""
    optimizer, other = (ol.Muon({"W": np.eye(2)}) for _ in range(2))
    optimizer.step(grads={"W": np.ones((2, 2))})
    saved = optimizer.state_dict()
    for key in ("use_muon", "betas", "maximize"):
        del saved["param_groups"][0][key]
    assert len(other.load_state_dict(saved).defaulted) == 3
    assert same_bits(other.state["W"]["momentum_buffer"], optimizer.state["W"]["momentum_buffer"])
    assert list(other.state["W"]) == ["momentum_buffer"]


def test_a_zero_gradient_without_eps_is_nan_as_0_over_0_is() -> None:
    W = np.ones((2, 2))
    ol.Muon([W], eps=0).step(grads=[np.zeros((2, 2))])           # it raised ZeroDivisionError
    assert np.isnan(W).all()


def test_normuon_brings_rows_to_one_size() -> None:
    """In its first step exactly: v is their mean square, but for a factor."""
    W = np.zeros((6, 3))
    g = np.random.default_rng(5).standard_normal((6, 3))
    ol.NorMuon([W], lr=1.0, adjust_lr_fn="match_rms_adamw").step(grads=[g])
    rows = np.linalg.norm(W, axis=1)
    np.testing.assert_allclose(rows, rows[0], rtol=1e-7)
