"""`least_squares`: NIST's certified digits, forms of unknowns and Jacobians, losses, ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.nist import NIST, REGRESSIONS, Regression, jacobian
from support.problems import PROBLEMS
from support.residuals import FORMS, Array, Operator, T, decay, given

METHODS = ["lm", "trust-region", "gauss-newton"]
FEW = ["Misra1a", "Kirby2", "Rat43"]


# NIST ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("regression", REGRESSIONS, ids=lambda r: r.name)
def test_what_was_transcribed_is_what_was_certified(regression: Regression) -> None:
    """The certified parameters are the minimum, and their sum of squares is the certified one, to rounding.

    The parameters have 11 digits: a step of Gauss and Newton finds what these left out, in each for all others, too.
    Without it Lanczos1, whose residuals are of the 13th digit, would have 28,000 times its sum of squares.
    """
    J, r = regression.jacobian(regression.certified), regression.residuals(regression.certified)
    norms = np.linalg.norm(J, axis=0)
    p = np.linalg.lstsq(J / norms, r)[0] / norms
    assert (abs(p) <= 1e-9 * abs(regression.certified)).all()
    assert np.sum((r - J @ p)**2) == pytest.approx(regression.rss, rel=max(1e-9, regression.rounding))


def fits(names: list[str], marks: Any = ()) -> list[Any]:
    return [pytest.param(NIST[name], k, id=f"{name}-{k + 1}", marks=marks) for name in names for k in (0, 1)]


@pytest.mark.parametrize(("regression", "start"), [
    *fits(FEW), *fits([name for name in NIST if name not in FEW], pytest.mark.slow)])
def test_the_certified_digits_from_both_of_nists_starts(regression: Regression, start: int) -> None:
    """scipy's `lm` finds no minimum from the first start of BoxBOD."""
    fit = ol.least_squares(regression.residuals, regression.starts[start], regression.jacobian, ftol=1e-15, xtol=1e-15,
                           gtol=1e-15, max_nfev=2000)
    assert fit.success
    assert regression.digits(fit.x) >= 6
    assert 2 * fit.cost == pytest.approx(regression.rss, rel=max(1e-9, regression.rounding))
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance())), regression.deviations,
                               rtol=max(1e-4, regression.rounding))


@pytest.mark.parametrize("name", FEW)
def test_by_differences(name: str) -> None:
    fit = ol.least_squares(NIST[name].residuals, NIST[name].starts[1], jac="3-point", ftol=1e-14, diff_step=1e-5)
    assert NIST[name].digits(fit.x) >= 6


@pytest.mark.parametrize(("name", "published"), [
    ("Meyer", 87.9458), ("Osborne 1", 5.46489e-5), ("Osborne 2", 4.01377e-2),
    ("Linear rank one, zero columns and rows 10 of 20", 454 / 74)])
def test_data_and_starts_lead_to_the_minimum_that_was_published(name: str, published: float) -> None:
    """By Moré, Garbow and Hillstrom, in six digits, of which the last is cut off or rounded."""
    assert len(PROBLEMS) == 35
    problem = next(one for one in PROBLEMS if one.name == name)
    with np.errstate(all="ignore"):
        fit = ol.least_squares(problem.residuals, problem.start, given("matrix", problem.residuals))
    assert fit.success
    assert 2 * fit.cost == pytest.approx(published, rel=2e-6)


# The forms -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", METHODS)
def test_every_form_of_jacobian_with_every_method(form: str, method: str) -> None:
    fit = ol.least_squares(decay, [1.0, 1.0], given(form), method=method)
    best = ol.least_squares(decay, [1.0, 1.0], given("matrix"), ftol=1e-15, gtol=1e-14)
    assert fit.success
    np.testing.assert_allclose(fit.x, best.x, rtol=1e-5)
    assert fit.optimality == abs(fit.grad).max() < 1e-5
    assert fit.cost == pytest.approx(0.5 * fit.fun @ fit.fun)
    assert (fit.products > 0) == (form in ("operator", "pair"))


def test_the_result_has_scipys_fields() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    ours, theirs = (solve(decay, [1.0, 1.0]) for solve in (ol.least_squares, optimize.least_squares))
    assert set(theirs) <= set(ours)
    assert isinstance(ours, optimize.OptimizeResult)
    np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-6)
    for field in ("fun", "jac", "grad", "active_mask"):
        assert np.shape(ours[field]) == np.shape(theirs[field])


@pytest.mark.parametrize("form", ["matrix", "operator", "2-point"])
def test_unknowns_and_residuals_in_any_nesting(form: str) -> None:
    """float32 stays so, also beside float64."""
    seen = set()

    def fun(x: Any) -> dict[str, Any]:
        seen.add((x["a"].dtype, x["rest"][0].dtype))
        return {"data": (x["a"] * np.exp(-x["rest"][0][0, 0] * T) - 3 * np.exp(-T / 2)).reshape(3, 3),
                "prior": 0.1 * x["rest"][0][0, 1]}

    def matrix(x: Any) -> Array:
        e = np.exp(-x["rest"][0][0, 0] * T)
        return np.vstack([np.column_stack([e, -x["a"] * T * e, 0 * T]), [[0, 0, 0.1]]])

    jac = {"matrix": matrix, "operator": lambda x: Operator(matrix(x))}.get(form, form)
    x0 = {"a": np.float32(1), "rest": [np.ones((1, 2))]}
    fit = ol.least_squares(fun, x0, jac)
    assert fit.success
    assert seen == {(np.dtype(np.float32), np.dtype(np.float64))}
    assert fit.x["a"] == pytest.approx(3, abs=1e-5)
    np.testing.assert_allclose(fit.x["rest"][0], [[0.5, 0]], atol=1e-5)
    assert fit.fun["data"].shape == (3, 3)
    assert fit.grad["rest"][0].shape == fit.active_mask["rest"][0].shape == (1, 2)
    assert x0["a"] == 1


def test_a_jacobian_in_the_nesting_of_the_unknowns() -> None:
    fit = ol.least_squares(lambda x: x["a"] * T - x["b"] @ np.ones((3, 9)) - T + 2, {"a": 5.0, "b": np.zeros(3)},
                           jac=lambda x: {"a": T, "b": -np.ones((9, 3))})
    assert fit.x["a"] == pytest.approx(1)
    np.testing.assert_allclose(fit.x["b"], 2 / 3)    # the shortest of all solutions


@pytest.mark.parametrize("form", FORMS)
def test_float32_is_not_cast_and_ends(form: str) -> None:
    seen = set()

    def fun(b: Array) -> Array:
        seen.add(b.dtype)
        return np.float32(decay(b))

    fit = ol.least_squares(fun, np.ones(2, np.float32), given(form))
    assert seen == {np.dtype(np.float32)}
    assert fit.success
    assert fit.x.dtype == fit.grad.dtype == np.float32
    assert fit.nfev < 40
    assert fit.cost == pytest.approx(ol.least_squares(decay, [1.0, 1.0]).cost, rel=1e-4)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (6,), (1, 1, 6)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_x0_in_any_shape_and_order(shape: Any, order: Any) -> None:
    A = np.random.default_rng(0).standard_normal((9, 6))
    x0 = np.asarray(np.zeros(shape), order=order)
    for jac in ("2-point", lambda x: A, lambda x: A.reshape(9, *shape)):
        fit = ol.least_squares(lambda x: A @ x.ravel() - A @ np.arange(6), x0, jac)
        np.testing.assert_allclose(fit.x, np.arange(6).reshape(shape), atol=1e-6)


def test_sparse_matrices_are_operators() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    fit = ol.least_squares(decay, [1.0, 1.0], lambda x: sparse.csr_array(given("matrix")(x)), bounds=(0, 2.5))
    assert fit.x[0] == 2.5
    assert fit.products > 0


def test_more_unknowns_than_residuals_take_the_shortest_step() -> None:
    A = np.random.default_rng(1).standard_normal((3, 7))
    for jac in (lambda x: A, lambda x: Operator(A)):
        fit = ol.least_squares(lambda x: A @ x - 1, np.zeros(7), jac, method="trust-region")
        np.testing.assert_allclose(fit.x, np.linalg.pinv(A) @ np.ones(3), atol=1e-6)


@pytest.mark.parametrize("workers", [2, map])
def test_differences_side_by_side(workers: Any) -> None:
    assert (ol.least_squares(decay, [1.0, 1.0], workers=workers).x == ol.least_squares(decay, [1.0, 1.0]).x).all()


def test_scales() -> None:
    """Units of the unknowns make no difference where they are named."""
    plain = ol.least_squares(decay, [1.0, 1.0], given("matrix"), method="trust-region", gtol=None)
    units = np.array([1e-6, 1e6])
    other = ol.least_squares(lambda b: decay(b / units), units, lambda b: given("matrix")(b / units) / units,
                             method="trust-region", x_scale=units, gtol=None)
    np.testing.assert_allclose(other.x / units, plain.x, rtol=1e-6)
    assert other.nfev == plain.nfev


# Losses --------------------------------------------------------------------------------------------------------------

@np.errstate(all="ignore")                       # of a first step that goes far
def outliers(b: Array) -> Array:
    r = np.array(decay(b))
    r[[2, 6]] += [4, -7]
    return r


@pytest.mark.parametrize("form", ["matrix", "pair"])
@pytest.mark.parametrize("loss", ["huber", "soft_l1", "cauchy", "arctan"])
def test_robust_losses_are_scipys(loss: str, form: str) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    options: dict[str, Any] = {"loss": loss, "f_scale": 0.3, "ftol": 1e-13, "xtol": 1e-13, "gtol": 1e-11}
    ours = ol.least_squares(outliers, [2.5, 0.6], given(form, outliers), method="trust-region", **options)
    theirs = optimize.least_squares(outliers, [2.5, 0.6], given("matrix", outliers), **options)
    np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-5)
    assert ours.cost == pytest.approx(theirs.cost, rel=1e-10)
    if form == "matrix":
        np.testing.assert_allclose(ours.jac, theirs.jac, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", ["huber", "soft_l1", "cauchy", "arctan", lambda z: (z**2 / 2, z, np.ones_like(z))])
def test_the_gradient_is_that_of_the_cost(loss: Any) -> None:
    def cost(b: Array) -> Any:
        return ol.least_squares(outliers, b, given("matrix", outliers), loss=loss, f_scale=0.5, max_nfev=1)

    x, h = np.array([2.2, 0.8]), 1e-6
    quotients = [(cost(x + h * e).cost - cost(x - h * e).cost) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(cost(x).grad, quotients, rtol=1e-6)


# Ends ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("options", "status"), [
    ({"ftol": None, "xtol": None}, 1), ({"xtol": None, "gtol": None}, 2), ({"ftol": None, "gtol": None}, 3),
    ({"max_nfev": 4}, 0)])
def test_the_ends_have_scipys_numbers(options: dict[str, Any], status: int) -> None:
    fit = ol.least_squares(decay, [1.0, 1.0], given("matrix"), **options)
    assert fit.status == status
    assert fit.success == (status > 0)
    word = {1: "gtol", 2: "ftol", 3: "xtol", 0: "max_nfev"}[status]
    assert word in fit.message


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["lm", "trust-region"])
@pytest.mark.parametrize("size", [1e-9, 1e-12, 1e-30])
def test_a_start_that_is_almost_0_is_no_small_radius(size: float, method: str, form: str) -> None:
    """From there the first step would be so short that it changes the cost by less than `ftol`."""
    def bent(b: Array) -> Array:
        return b[0] + b[1] * T + 0.1 * b[0] * b[1] - np.cos(T)

    fit = ol.least_squares(bent, [size, size], given(form, bent), method=method)
    assert fit.success
    assert fit.nfev < 30
    assert fit.cost == pytest.approx(ol.least_squares(bent, [0.0, 0.0]).cost, rel=1e-6)


@pytest.mark.parametrize("form", ["matrix", "pair"])
def test_a_radius_that_keeps_the_step_short_is_no_end_by_ftol(form: str) -> None:
    start = ol.least_squares(decay, [1.0, 1.0], given(form), max_nfev=1)
    fit = ol.least_squares(decay, jac=given(form), state={**start.state, "radius": 1e-10}, xtol=None)
    assert fit.success
    assert fit.cost == pytest.approx(ol.least_squares(decay, [1.0, 1.0]).cost, rel=1e-6)


@pytest.mark.parametrize(("fun", "given", "message"), [
    (lambda x: 0 * x, {"xtol": 1e-8}, "the step is small enough (`xtol`)"),
    (lambda x: 0 * x + 1, {}, "no step changes x any more")])
def test_tolerances_that_are_off_end_no_run(fun: Any, given: dict[str, Any], message: str) -> None:
    fit = ol.least_squares(fun, [1.0], **{"ftol": None, "xtol": None, "gtol": None, **given})
    assert (fit.status, fit.message) == (3, message)


def test_a_cost_that_falls_by_more_than_was_predicted_is_no_end_by_ftol() -> None:
    """Near 0 the cost hardly changes, and the model doesn't see the curvature that leads away from there."""
    def fun(x: Array) -> Array:
        return np.array([1 - 1e-5 * x[0] - 5 * np.sin(x[0])**2, x[0]])

    fit = ol.least_squares(fun, [0.0], given("matrix", fun))
    assert fit.success
    assert abs(fit.grad[0]) < 1e-3
    assert fit.cost < 0.11                       # at 0 it is 0.5


@pytest.mark.parametrize("form", FORMS)
def test_max_nfev_is_never_exceeded(form: str) -> None:
    full = ol.least_squares(decay, [1.0, 1.0], given(form))
    for limit in range(1, full.nfev):
        fit = ol.least_squares(decay, [1.0, 1.0], given(form), max_nfev=limit)
        assert (fit.nfev, fit.status) == (limit, 0)
        np.testing.assert_array_equal(fit.fun, decay(fit.x))


def test_callbacks() -> None:
    xs: list[Array] = []
    fit = ol.least_squares(decay, [1.0, 1.0], callback=xs.append)
    assert len(xs) == fit.nit
    assert (xs[-1] == fit.x).all()
    costs: list[float] = []

    def stop(intermediate_result: Any) -> None:
        r = intermediate_result
        assert r.cost == 0.5 * decay(r.x) @ decay(r.x) == pytest.approx(0.5 * r.fun @ r.fun)
        costs.append(r.cost)
        if r.nit == 3:
            raise StopIteration

    fit = ol.least_squares(decay, [1.0, 1.0], callback=stop)
    assert (fit.nit, fit.status, fit.success, fit.cost) == (3, -2, False, costs[-1])
    assert costs == sorted(costs, reverse=True)


def test_progress_shows_the_cost(capsys: pytest.CaptureFixture[str]) -> None:
    with ol.Progress() as progress:
        fit = ol.least_squares(decay, [1.0, 1.0], callback=progress)
    assert progress.iterations == fit.nit
    assert f"{fit.cost:.6g}" in capsys.readouterr().err


def test_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    fit = ol.least_squares(decay, [1.0, 1.0], verbose=2)
    said = capsys.readouterr().out
    assert said.count("iteration ") == fit.nit
    assert fit.message in said


@pytest.mark.parametrize("form", ["matrix", "pair"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_trials_that_are_not_finite_are_infinitely_high(form: str, bad: float) -> None:
    """The first step would go to -3, and the logarithm ends at 0."""
    def fun(x: Array) -> Array:
        return np.array([np.log(x[0]) + 2.0, x[1]]) if x[0] > 0 else np.array([bad, x[1]])

    def matrix(x: Array) -> Array:
        return np.diag([1 / x[0], 1.0])

    jac = matrix if form == "matrix" else (lambda x, v: matrix(x) @ v, lambda x, u: matrix(x).T @ u)
    fit = ol.least_squares(fun, [4.0, 1.0], jac)
    assert fit.success
    np.testing.assert_allclose(fit.x, [np.exp(-2), 0], atol=1e-6)


@pytest.mark.parametrize("form", ["matrix", "operator"])
def test_a_jacobian_that_is_not_finite_ends_the_run(form: str) -> None:
    wrong = np.full((9, 2), np.nan)
    fit = ol.least_squares(decay, [1.0, 1.0], lambda x: wrong if form == "matrix" else Operator(wrong))
    assert (fit.status, fit.success) == (-1, False)
    assert "isn't finite" in fit.message


def test_residuals_in_a_buffer_that_is_used_again() -> None:
    buffer = np.empty(9)

    def fun(b: Array) -> Array:
        buffer[...] = decay(b)
        return buffer

    for jac in ("2-point", "3-point"):
        assert (ol.least_squares(fun, [1.0, 1.0], jac).x == ol.least_squares(decay, [1.0, 1.0], jac).x).all()


def test_a_covariance_that_there_is_not() -> None:
    A = np.ones((5, 2))                          # only the sum is known
    fit = ol.least_squares(lambda x: A @ x - T[:5], np.zeros(2), lambda x: A)
    assert (fit.covariance() == np.inf).all()
    with pytest.raises(ValueError, match="more residuals than unknowns, got 2 for 2"):
        ol.least_squares(lambda x: x - 1, np.zeros(2)).covariance()
    with pytest.raises(TypeError, match="needs the Jacobian as a matrix"):
        ol.least_squares(decay, [1.0, 1.0], given("operator")).covariance()


@pytest.mark.parametrize("problem", PROBLEMS[:6], ids=lambda p: p.name)
def test_problems_that_are_badly_scaled(problem: Any) -> None:
    for method in ("lm", "trust-region"):
        with np.errstate(all="ignore"):
            fit = ol.least_squares(problem.residuals, problem.start, lambda x: jacobian(problem.residuals, x),
                                   method=method)
        assert problem.solved(2 * fit.cost, 2 * fit.grad), method
