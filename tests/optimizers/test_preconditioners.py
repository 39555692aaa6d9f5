"""SOAP and Shampoo: their first steps, what of their state can't change, and what they make of singular statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import same_bits
from support.helpers import values


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# Formulas once more --------------------------------------------------------------------------------------------------

def test_soap_sets_its_bases_first_and_moves_nothing() -> None:
    W, g = noise(4, 3), noise(4, 3, seed=1)
    opt, before = ol.SOAP({"W": W}, shampoo_beta=0.75), W.copy()
    opt.step(grads={"W": g})
    assert same_bits(W, before)
    state = opt.state["W"]
    np.testing.assert_allclose(state["GG"], np.concatenate([np.ravel(g @ g.T), np.ravel(g.T @ g)]) / 4)
    for q, product in ((state["Q"][:16].reshape(4, 4), g @ g.T), (state["Q"][16:].reshape(3, 3), g.T @ g)):
        np.testing.assert_allclose(q.T @ q, np.eye(len(q)), atol=1e-12)
        turned = q.T @ product @ q
        np.testing.assert_allclose(turned, np.diag(np.diag(turned)), atol=1e-12)
        assert (np.diff(np.diag(turned)) < 1e-12).all()          # descending
    assert not state["exp_avg"].any()


def test_soap_is_adam_where_nothing_is_rotated() -> None:
    """From the second step on, with eps outside the bias correction and the decay after the step."""
    w = noise(5)
    v = w.copy()
    soap = ol.SOAP({"w": w}, lr=0.1, betas=(0.8, 0.9), eps=0.01, weight_decay=0)
    adam = ol.Adam({"w": v}, lr=0.1, betas=(0.8, 0.9), eps=0.01, uncorrected_eps=True)
    for t in range(6):
        soap.step(grads={"w": noise(5, seed=t)})
        if t:
            adam.step(grads={"w": noise(5, seed=t)})
    np.testing.assert_allclose(w, v, rtol=1e-12)


def test_soap_does_not_depend_on_the_basis_it_is_given() -> None:
    """Gradients that are rotated, U g V, turn the whole path likewise: what Adam can't do."""
    u, v = np.linalg.qr(noise(4, 4))[0], np.linalg.qr(noise(3, 3, seed=1))[0]
    plain, turned = np.zeros((4, 3)), np.zeros((4, 3))
    first, second = (ol.SOAP([W], lr=0.1, precondition_frequency=3) for W in (plain, turned))
    for t in range(10):
        g = noise(4, 3, seed=t)
        first.step(grads=[g])
        second.step(grads=[u @ g @ v])
    np.testing.assert_allclose(turned, u @ plain @ v, atol=1e-9)


def test_shampoo_of_a_matrix_is_the_papers() -> None:
    """L^(-1/4) G R^(-1/4), by the SVD: U s^(1 - 1/2 - 1/2) V^T in the first step."""
    W, g = np.zeros((3, 5)), noise(3, 5)
    ol.Shampoo([W], lr=0.5, betas=(0, 1), eps=1e-14, merge_dims=False).step(grads=[g])
    left, _, right = np.linalg.svd(g, full_matrices=False)
    np.testing.assert_allclose(W, -0.5 * left @ right, atol=1e-5)


def test_shampoo_of_a_vector_is_full_matrix_adagrad() -> None:
    w, products = np.zeros(3), np.zeros((3, 3))
    opt, expected = ol.Shampoo([w], lr=0.1, betas=(0, 1), eps=1e-3), np.zeros(3)
    for t in range(5):
        g = noise(3, seed=t)
        opt.step(grads=[g])
        products += np.outer(g, g)
        lifted, vectors = np.linalg.eigh(products + 1e-3 * np.eye(3))
        expected -= 0.1 * vectors @ (vectors.T @ g / np.sqrt(lifted))
    np.testing.assert_allclose(w, expected, rtol=1e-9)


@pytest.mark.parametrize("shape", [(7, 5), (4, 1, 6), (9,)])
def test_blocks_are_parameters_of_their_own(shape: tuple[int, ...]) -> None:
    W = noise(*shape)
    whole = W.copy()
    parts = [np.array(part) for rows in np.split(W, [3, 6]) for part in (
        np.split(rows, [3], -1) if W.ndim > 1 else [rows])]
    options: dict[str, Any] = {"lr": 0.1, "grafting": "adam", "max_preconditioner_dim": 3, "merge_dims": False}
    one, many = ol.Shampoo([whole], **options), ol.Shampoo(parts, **options)
    for t in range(4):
        g = noise(*shape, seed=t)
        one.step(grads=[g])
        many.step(grads=[part for rows in np.split(g, [3, 6]) for part in (
            np.split(rows, [3], -1) if g.ndim > 1 else [rows])])
    if shape[-1] <= 6:
        joined = [np.concatenate(parts[k:k + 2], -1) for k in range(0, len(parts), 2)] if W.ndim > 1 else parts
        np.testing.assert_allclose(whole, np.concatenate(joined), rtol=1e-9)


# State ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("kind", "option", "value"), [
    (ol.SOAP, "merge_dims", True), (ol.SOAP, "max_precond_dim", 3), (ol.Shampoo, "merge_dims", False),
    (ol.Shampoo, "max_preconditioner_dim", 3)])
def test_what_chooses_the_shape_of_state_can_not_change(kind: Any, option: str, value: Any) -> None:
    opt = kind({"W": noise(5, 2)})
    for t in range(2):
        opt.step(grads={"W": noise(5, 2, seed=t)})
    before = values(opt)
    kept, opt.param_groups[0][option] = opt.param_groups[0][option], value
    with pytest.raises(ValueError, match=r"of 'W' must be float64 of shape"):
        opt.step()
    assert values(opt) == before
    opt.param_groups[0][option] = kept
    opt.step()
    del opt.state["W"]
    opt.param_groups[0][option] = value
    opt.step()


@pytest.mark.parametrize("kind", [ol.SOAP, ol.Shampoo])
def test_rows_of_a_mixture_are_refused(kind: Any) -> None:
    opt = kind({"W": noise(4, 2)})
    opt.step(grads={"W": noise(4, 2)})
    with pytest.raises(ValueError, match=f"the state of 'W', where {kind.__name__} mixes the rows; leave `rows` out"):
        opt.replace("W", noise(3, 2), rows=[0, 1, 2])
    opt.replace("W", noise(3, 2))
    assert not opt.state["W"]


@pytest.mark.parametrize("make", [lambda p: ol.SOAP(p, precondition_frequency=1), ol.Shampoo,
                                  lambda p: ol.Shampoo(p, grafting="adam", merge_dims=False)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_singular_statistics_stay_finite(make: Any, dtype: Any) -> None:
    """Gradients of rank one, of zeros, and of very different sizes."""
    W = np.ones((6, 4), dtype)
    opt = make([W])
    g = np.outer(np.arange(6.0), [1, 0, 0, 1e-4]).astype(dtype)
    for scale in (0, 1, 1, 1e-8, 0, 1e4, 1):
        opt.step(grads=[g * dtype(scale)])
        assert np.isfinite(W).all()
    assert not (W == 1).all()


def test_roots_wait_for_their_step() -> None:
    W, adam = np.zeros((3, 2)), np.zeros((3, 2))
    opt = ol.Shampoo([W], lr=0.1, precondition_frequency=2, start_preconditioning_step=3, grafting="adam",
                     grafting_eps=1e-8)
    plain = ol.Adam([adam], lr=0.1, betas=(0.9, 0.999))
    seen = []
    for t in range(6):
        for each in (opt, plain):
            each.step(grads=[noise(3, 2, seed=t)])
        seen.append(opt.state["0"]["roots"].copy())
        if t < 2:
            np.testing.assert_allclose(W, adam, rtol=1e-9)
    assert [bool((a != b).any()) for a, b in zip([np.zeros_like(seen[0]), *seen[:-1]], seen, strict=True)] == [
        False, False, True, True, False, True]
