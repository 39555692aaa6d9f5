"""An inverse Hessian to begin with, and inner products of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import same_bits
from support.closures import interrupted, rosenbrock

METHODS = ["lbfgs", "cg"]
SCALES = np.logspace(0, 5, 60)


def badly_scaled(x: np.ndarray) -> tuple[float, np.ndarray]:
    """A quartic bowl whose curvatures differ by 1e5."""
    r = x - 1
    return float(SCALES @ (r**2 / 2 + r**4 / 4)), SCALES * (r + r**3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("h0", [1 / SCALES, lambda v: v / SCALES, 0.5 / SCALES])
def test_a_good_h0_saves_most_evaluations(method: str, h0: Any) -> None:
    plain = ol.minimize(badly_scaled, np.zeros(60), method=method)
    helped = ol.minimize(badly_scaled, np.zeros(60), method=method, h0=h0)
    np.testing.assert_allclose(helped.x, 1, atol=1e-5)
    assert helped.nfev <= 20
    assert helped.nfev < plain.nfev / 3


@pytest.mark.parametrize("history", [1, 3, 10])
def test_the_direction_is_that_of_two_plain_loops(history: int) -> None:
    """The first of these had only the identity between the loops."""
    rng = np.random.default_rng(0)
    q = rng.standard_normal((12, 12))
    a, h = q @ q.T + np.eye(12), np.exp(rng.standard_normal(12))
    x, points = rng.standard_normal(12), []
    opt = ol.LBFGS([x], line_search_fn="nocedal_wright", history_size=history, h0=[h], max_iter=6, tolerance_change=0,
                   callback=lambda result: points.append(x.copy()))
    points.append(x.copy())
    opt.step(lambda: (float(x @ a @ x) / 2, [a @ x]))
    gradients = [a @ p for p in points]
    for k in range(1, len(points) - 1):
        pairs = [(points[j + 1] - points[j], gradients[j + 1] - gradients[j]) for j in range(max(0, k - history), k)]
        d, alphas = -gradients[k], []
        for s, y in reversed(pairs):
            alphas.append(s @ d / (s @ y))
            d = d - alphas[-1] * y
        d = h * d
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            d = d + (alpha - y @ d / (s @ y)) * s
        step = points[k + 1] - points[k]
        np.testing.assert_allclose(step / np.linalg.norm(step), d / np.linalg.norm(d), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_an_inner_product_is_a_change_of_variables(method: str) -> None:
    """Representers in <u, v> = u.Mv, M diagonal, are what the variables sqrt(M) x have for gradients."""
    m = np.linspace(0.1, 10, 6)

    def in_m(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, g = rosenbrock(x)
        return loss, g / m

    def changed(z: np.ndarray) -> tuple[float, np.ndarray]:
        loss, g = rosenbrock(z / np.sqrt(m))
        return loss, g / np.sqrt(m)

    options = {"maxiter": 12, "gtol": 0, "ftol": 0} if method == "lbfgs" else {"maxiter": 12, "gtol": 0}
    one = ol.minimize(in_m, np.full(6, -1.2), method=method, inner=lambda u, v: (u * m * v).sum(), options=options)
    other = ol.minimize(changed, np.full(6, -1.2) * np.sqrt(m), method=method, options=options)
    assert one.nfev == other.nfev
    np.testing.assert_allclose(one.x, other.x / np.sqrt(m), rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_with_the_product_of_functions_a_finer_mesh_costs_nothing(method: str) -> None:
    """The example of docs/inverse_problems.md: a mesh whose cells have different sizes."""
    def counts(n: int) -> tuple[int, int]:
        h = np.diff(np.linspace(0, 1, n + 1)**2)
        target = np.sin(6 * np.cumsum(h))

        def fun(u: np.ndarray, weight: Any = 1) -> tuple[float, np.ndarray]:
            return float(h @ ((u - target)**2 / 2 + u**4 / 4)), weight * (u - target + u**3)

        limits = {"ftol": 0} if method == "lbfgs" else {}
        return (ol.minimize(fun, np.zeros(n), method=method, options={**limits, "gtol": 1e-6},
                            inner=lambda u, v: float(h @ (u * v))).nfev,
                ol.minimize(fun, np.zeros(n), h, method=method, options={**limits, "gtol": 1e-6 * h.min()}).nfev)

    (coarse, coarse_plain), (fine, fine_plain) = counts(40), counts(2560)
    assert abs(fine - coarse) <= 2               # 13 for L-BFGS, 20 and 19 for CG
    assert min(coarse_plain, fine_plain) > 3 * max(coarse, fine)


@pytest.mark.parametrize("method", METHODS)
def test_the_plain_inner_product_changes_nothing_but_rounding(method: str) -> None:
    plain = ol.minimize(badly_scaled, np.zeros(60), method=method, options={"maxiter": 5})
    inner = ol.minimize(badly_scaled, np.zeros(60), method=method, options={"maxiter": 5}, inner=np.dot)
    np.testing.assert_allclose(plain.x, inner.x, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_in_a_nesting_with_bounds(method: str) -> None:
    seen = []

    def h0(v: Any) -> Any:
        seen.append(set(v))
        return {"a": v["a"] / 100, "b": [v["b"][0]]}

    result = ol.minimize(lambda x: (float(50 * (x["a"]**2).sum() + ((x["b"][0] - 1)**2).sum() / 2),
                                    {"a": 100 * x["a"], "b": [x["b"][0] - 1]}),
                         {"a": np.ones(3), "b": [np.zeros(2)]}, method=method, h0=h0, bounds=(0.25, 2))
    assert (result.x["a"] == 0.25).all()
    np.testing.assert_allclose(result.x["b"][0], 1, atol=1e-6)
    assert seen
    assert all(keys == {"a", "b"} for keys in seen)
    result = ol.minimize(lambda x: (float(50 * (x["a"]**2).sum()), {"a": 100 * x["a"]}), {"a": np.ones(3)},
                         method=method, h0={"a": np.full(3, 0.01)}, inner=lambda u, v: float((u["a"] * v["a"]).sum()))
    np.testing.assert_allclose(result.x["a"], 0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("given", [{"h0": 1 / SCALES}, {"inner": np.dot}])
@pytest.mark.parametrize("at", [2, 4, 6, 7])
def test_runs_go_on_with_the_same_bits(method: str, given: dict[str, Any], at: int) -> None:
    given = {**given, "method": method, "options": {"gtol": 10}}      # 4 iterations with an H0, 200 to 330 without
    whole = ol.minimize(badly_scaled, np.full(60, 3.0), **given)
    with pytest.raises(KeyboardInterrupt) as caught:
        ol.minimize(interrupted(badly_scaled, at), np.full(60, 3.0), **given)
    rest = ol.minimize(badly_scaled, state=caught.value.state, **given)          # type: ignore[attr-defined]
    assert same_bits(rest.x, whole.x)


@pytest.mark.parametrize("make", [ol.LBFGS, ol.ConjugateGradient])
@pytest.mark.parametrize(("given", "message"), [
    ({"h0": [np.ones(3)]}, "`h0` must have one array for each of 2 parameters, got 1"),
    ({"h0": {"x": 1, "z": 1}}, r"`h0` must have an array for each of \['x', 'y'\], got \['x', 'z'\]"),
    ({"h0": [np.ones(2), 1]}, r"`h0` of 'x' must be numbers that broadcast to \(3,\)"),
    ({"h0": [0, 1]}, "`h0` of 'x' must be > 0 and finite, got 0.0 to 0.0"),
    ({"h0": "diagonal"}, "`h0` of 'x' must be numbers"),
    ({"inner": 3}, "`inner` must be a function of two lists of arrays, got 3"),
    ({"inner": np.dot, "bounds": (0, 1)}, "`bounds` must have the plain inner product"),
])
def test_what_is_refused_at_once(make: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make({"x": np.ones(3), "y": np.ones(2)}, line_search_fn="nocedal_wright", **given)


@pytest.mark.parametrize(("made", "message"), [
    (lambda v: v[0], "must return a list of 2 arrays"), (lambda v: [v[0], v[0]], r"shape \(2,\) for 'y', got \(3,\)")])
def test_what_h0_returns(made: Any, message: str) -> None:
    x, y = np.ones(3), np.ones(2)
    with pytest.raises((TypeError, ValueError), match=message):
        ol.LBFGS({"x": x, "y": y}, line_search_fn="nocedal_wright", h0=made).step(lambda: (1.0, [x, y]))
