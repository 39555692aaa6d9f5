"""L-BFGS: the standard problems, torch's golden iterates, results, refusals, groups, known troubles of others."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support import paths
from support.bits import same_bits
from support.closures import CASES, SEARCHES, Logistic, iterates, quadratic

GOLDEN = np.load(paths.GOLDEN / "lbfgs.npz")


# Solving -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("search", SEARCHES)
def test_ill_conditioned_quadratic(search: str, dtype: type) -> None:
    """Condition 1e6: the relative error of the solution shrinks as far as the type allows."""
    x = np.zeros(12, dtype)
    opt = ol.LBFGS([x], history_size=20, line_search_fn=search, max_iter=500, max_eval=2000, tolerance_grad=0,
                   tolerance_change=0)
    closure = quadratic(x, np.logspace(0, 6, 12).astype(dtype))
    first = opt.step(closure)
    assert opt.result.loss <= first * (1e-20 if dtype is np.float64 else 1e-9)
    assert abs(x - 1).max() <= (1e-8 if dtype is np.float64 else 0.1)


# torch ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", CASES)
def test_the_iterates_are_torchs(name: str) -> None:
    case, theirs = CASES[name], GOLDEN[name]
    ours = iterates(case, ol.LBFGS)
    assert ours.shape == theirs.shape
    error = abs(ours - theirs).max(axis=1) / abs(theirs).max(axis=1)
    assert error.max() <= 1e-6, f"first at step {int(np.argmax(error > 1e-6))}: {error.max():.3g}"


# Results, counts, errors ---------------------------------------------------------------------------------------------

def test_step_returns_the_first_loss_and_the_result_tells_the_rest() -> None:
    problem = Logistic()
    seen: list[float] = []

    def closure() -> Any:
        value = problem()
        seen.append(value[0])
        return value

    opt = ol.LBFGS(problem.params, line_search_fn="strong_wolfe", max_iter=300)
    assert opt.step(closure) == seen[0]
    assert opt.result.evaluations == len(seen) == int(opt.state[problem.params[0]]["func_evals"])
    assert opt.result.loss == min(seen) == problem()[0]
    assert opt.result.grad_norm == max(abs(g).max() for g in problem()[1])
    assert opt.result.converged
    assert "small enough" in opt.result.reason


def test_first_order_optimizers_take_the_same_closure() -> None:
    for optimizer in (ol.SGD, ol.Adam, ol.LBFGS, ol.ConjugateGradient):
        problem = Logistic()
        opt = optimizer(problem.params, lr=0.1)
        before = opt.step(problem)
        for _ in range(5):
            opt.step(problem)
        assert problem()[0] < before


def test_gradients_may_be_assigned_instead_of_returned() -> None:
    problem, twin = Logistic(), Logistic()
    params = [ol.Parameter(p) for p in problem.params]
    opt, other = (ol.LBFGS(p, line_search_fn="strong_wolfe") for p in (params, twin.params))

    def closure() -> float:
        opt.zero_grad()
        loss, gradients = problem()
        for p, g in zip(params, gradients, strict=True):
            p.grad = g
        return loss

    assert opt.step(closure) == other.step(twin)
    assert all(same_bits(p, q) for p, q in zip(problem.params, twin.params, strict=True))


def test_maximize() -> None:
    x, y = np.zeros(5), np.zeros(5)
    spectrum = np.arange(1.0, 6.0)
    up, down = (ol.LBFGS([z], line_search_fn="strong_wolfe", maximize=m) for z, m in ((x, True), (y, False)))
    assert up.step(quadratic(x, spectrum, -1.0)) == -down.step(quadratic(y, spectrum))
    assert same_bits(x, y)
    assert up.result.loss == -down.result.loss


@pytest.mark.parametrize(("options", "message"), [
    ({"lr": -0.1}, "`lr` must be >= 0, got -0.1"),
    ({"history_size": 0}, "`history_size` must be an integer >= 1, got 0"),
    ({"max_iter": 1.5}, "`max_iter` must be an integer >= 1, got 1.5"),
    ({"max_eval": 0}, "`max_eval` must be an integer >= 1, got 0"),
    ({"tolerance_grad": math.nan}, "`tolerance_grad` must be finite, got nan"),
    ({"line_search_fn": "wolf"}, "`line_search_fn` must be .* got 'wolf'"),
    ({"bounds": (0, 1)}, "`bounds` must have a line search, got line_search_fn=None"),
    ({"bounds": (1, 0), "line_search_fn": "strong_wolfe"}, "low <= high, got 1.0 and 0.0"),
    ({"bounds": {"q": (0, 1)}, "line_search_fn": "strong_wolfe"}, "unknown names \\['q'\\]"),
    ({"bounds": [(0, 1)] * 3, "line_search_fn": "strong_wolfe"}, "one pair for each of 1 parameters, got 3"),
    ({"bounds": (np.zeros(4), 1), "line_search_fn": "strong_wolfe"}, "broadcast to \\(3,\\)"),
])
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ol.LBFGS([np.ones(3)], **options)


def test_bad_calls() -> None:
    opt = ol.LBFGS([np.ones(3)])
    with pytest.raises(TypeError, match="needs a closure"):
        opt.step()
    with pytest.raises(TypeError, match="takes no `grads`"):
        opt.step(lambda: 0.0, grads=[np.ones(3)])
    with pytest.raises(ValueError, match="`history_size` must be the same in every group of LBFGS, got 100 and 3"):
        ol.LBFGS([{"params": [np.ones(3)]}, {"params": [np.ones(2)], "history_size": 3}])
    with pytest.warns(UserWarning, match="left no gradient"):
        opt.step(lambda: 0.0)


# Parameters ----------------------------------------------------------------------------------------------------------

def test_shapes_layouts_groups_and_types_make_no_difference() -> None:
    """One vector, and the same numbers as matrices, scalars, Fortran order, transposed gradients, an empty group."""
    rng = np.random.default_rng(0)
    flat = rng.standard_normal(31)
    spectrum = np.linspace(1, 30, 31)
    single = flat.copy()
    opt = ol.LBFGS([single], line_search_fn="strong_wolfe", max_iter=15)
    opt.step(quadratic(single, spectrum))
    a, b, c = flat[:24].reshape(4, 6).copy(), np.asfortranarray(flat[24:30].reshape(2, 3)), np.array(flat[30])
    none = np.zeros((0, 3))

    def closure() -> Any:
        x = np.concatenate([a.ravel(), b.ravel(), c.ravel()])
        g = spectrum * (x - 1)
        return float((spectrum * (x - 1) ** 2).sum() / 2), [
            [np.asfortranarray(g[:24].reshape(4, 6)), none], [], [g[24:30].reshape(2, 3), np.float64(g[30])]]

    many = ol.LBFGS([{"params": [a, none]}, {"params": []}, {"params": [b, c]}], line_search_fn="strong_wolfe",
                    max_iter=15)
    many.step(closure)
    np.testing.assert_allclose(np.concatenate([a.ravel(), b.ravel(), c.ravel()]), single, rtol=1e-9)
    assert many.result.evaluations == opt.result.evaluations


def test_float32_and_float64_together() -> None:
    x, y = np.zeros(10, np.float32), np.zeros(10)
    opt = ol.LBFGS([x, y], line_search_fn="hager_zhang", max_iter=100, max_eval=1000)
    spectrum = np.logspace(0, 2, 10)

    def closure() -> Any:
        r, s = x.astype(np.float64) - 1, y - 2
        return float(spectrum @ (r * r + s * s)), [(2 * spectrum * r).astype(np.float32), 2 * spectrum * s]

    opt.step(closure)
    assert abs(x - 1).max() < 1e-5
    assert abs(y - 2).max() < 1e-5
    assert (opt.state[x]["s_0"].dtype, opt.state[y]["s_0"].dtype) == (np.float32, np.float64)


def test_lr_of_groups_is_a_change_of_variables() -> None:
    """x = sqrt(lr / largest lr) * z: the ratios of steepest descent; an lr of 0 holds a group still."""
    spectrum = np.array([1.0, 4.0, 9.0, 16.0])
    x, y = np.zeros(2), np.zeros(2)
    z = np.zeros(4)
    rate = np.array([1, 1, 0.25, 0.25])

    def closure() -> Any:
        g = spectrum * (np.concatenate([x, y]) - 1)
        return float(g @ (np.concatenate([x, y]) - 1) / 2), [[g[:2]], [g[2:]]]

    def changed() -> Any:
        r = np.sqrt(rate) * z - 1
        return float(spectrum @ (r * r) / 2), [np.sqrt(rate) * spectrum * r]

    opt = ol.LBFGS([{"params": [x]}, {"params": [y], "lr": 0.25}], line_search_fn="strong_wolfe", max_iter=4)
    twin = ol.LBFGS([z], line_search_fn="strong_wolfe", max_iter=4)
    opt.step(closure)
    twin.step(changed)
    np.testing.assert_allclose(np.concatenate([x, y]), np.sqrt(rate) * z, rtol=1e-10)
    frozen = ol.LBFGS([{"params": [x]}, {"params": [y], "lr": 0}], line_search_fn="strong_wolfe")
    x[...], y[...] = 0, 5
    frozen.step(closure)
    assert (y == 5).all()
    np.testing.assert_allclose(x, 1, rtol=1e-5)


def test_a_group_added_later_starts_anew() -> None:
    x, y = np.zeros(3), np.zeros(2)
    opt = ol.LBFGS([x], line_search_fn="strong_wolfe", max_iter=3)
    opt.step(quadratic(x, np.array([1.0, 5.0, 9.0])))
    opt.add_param_group({"params": [y]})
    opt.step(lambda: (float(((x - 1) ** 2).sum() + ((y - 2) ** 2).sum()), [[2 * (x - 1)], [2 * (y - 2)]]))
    np.testing.assert_allclose(y, 2, atol=1e-6)


# Known troubles ------------------------------------------------------------------------------------------------------

def test_a_fixed_step_into_nan_returns_to_the_last_good_point() -> None:
    x = np.array([1.0])
    opt = ol.LBFGS([x], lr=100)
    opt.step(lambda: (float(x[0]), [np.ones(1)]) if x[0] > 0 else (math.nan, [np.ones(1)]))
    assert x[0] == 1
    assert "use a line search or a smaller `lr`" in opt.result.reason


def test_rejected_pairs_in_float32() -> None:
    """Negative curvature and rounding: pairs are refused, and the loss still falls to what float32 resolves."""
    x = np.linspace(-3, 3, 200, dtype=np.float32)
    opt = ol.LBFGS([x], line_search_fn="backtracking", max_iter=300, max_eval=2000, tolerance_change=0)
    first = opt.step(lambda: (np.float32(np.sum(1 - np.cos(x), dtype=np.float64)), [np.sin(x)]))
    pairs = sum(key.startswith("s_") for key in opt.state[x])
    assert pairs < opt.result.iterations
    assert opt.result.loss <= 1e-5 * first


@pytest.mark.parametrize("search", SEARCHES)
def test_noisy_float32_losses_do_not_hurt(search: str) -> None:
    """pytorch#6838: near the minimum float32 losses are all alike; searches end no higher than they began."""
    x = np.zeros(1000, np.float32)
    spectrum = np.logspace(0, 3, 1000).astype(np.float32)
    opt = ol.LBFGS([x], line_search_fn=search, max_iter=500, max_eval=5000, tolerance_grad=0, tolerance_change=0)
    opt.step(lambda: (np.float32(1000 + np.sum(spectrum * (x - 1) ** 2)), [2 * spectrum * (x - 1)]))
    assert opt.result.loss <= 1000.1
    assert np.isfinite(x).all()


def test_hager_zhang_gets_farther_in_float32() -> None:
    """Slopes resolve what rounded losses don't: the gradient falls farther than with the Armijo condition."""
    gradients = {}
    for search in ("nocedal_wright", "hager_zhang"):
        x = np.zeros(1000, np.float32)
        spectrum = np.logspace(0, 3, 1000).astype(np.float32)
        opt = ol.LBFGS([x], line_search_fn=search, max_iter=500, max_eval=5000, tolerance_grad=0, tolerance_change=0)
        opt.step(lambda x=x, h=spectrum: (np.float32(1000 + np.sum(h * (x - 1) ** 2)), [2 * h * (x - 1)]))
        gradients[search] = opt.result.grad_norm
    assert gradients["hager_zhang"] < 0.1 * gradients["nocedal_wright"]


def test_no_warnings_in_a_plain_run() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problem = Logistic()
        ol.LBFGS(problem.params, line_search_fn="strong_wolfe").step(problem)
