"""optimlite.autograd: the functions of autograd.misc.optimizers, with their numbers."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest

import optimlite as ol
import optimlite.autograd as ours

OPTIONS = {"sgd": [{}, {"step_size": 0.02, "mass": 0.5}],
           "rmsprop": [{}, {"step_size": 0.01, "gamma": 0.5, "eps": 1e-3}],
           "adam": [{}, {"step_size": 0.1, "b1": 0.5, "b2": 0.9, "eps": 1e-3}]}
CASES = [(name, options) for name, each in OPTIONS.items() for options in each]
START = {"layers": [(np.arange(6.0).reshape(2, 3), np.ones(3)), (np.ones((3, 1)), np.zeros(1))], "scale": 0.5}


def theirs() -> Any:
    return pytest.importorskip("autograd.misc.optimizers")


def gradient_of_a_network() -> Any:
    anp, autograd = (pytest.importorskip(name) for name in ("autograd.numpy", "autograd"))
    x = np.random.default_rng(0).standard_normal((8, 2))

    def loss(params: Any, i: int) -> Any:
        (W1, b1), (W2, b2) = params["layers"]
        return anp.sum((params["scale"] * anp.dot(anp.tanh(anp.dot(x, W1) + b1), W2) + b2 - i % 3) ** 2) / 8

    return autograd.grad(loss)


def flat(node: Any) -> np.ndarray:
    found: list[Any] = []
    ours.mapped(found.append, node)
    return np.concatenate([np.ravel(leaf) for leaf in found])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_numbers_are_autograds(name: str, options: Any) -> None:
    grad, seen = gradient_of_a_network(), []
    runs = []
    for library in (ours, theirs()):
        seen.append([])
        before = flat(START).tobytes()
        runs.append(getattr(library, name)(grad, START, lambda x, i, g, kept=seen[-1]: kept.append((x, i, g)),
                                           num_iters=30, **options))
        assert flat(START).tobytes() == before
    np.testing.assert_allclose(flat(runs[0]), flat(runs[1]), rtol=1e-9, atol=1e-12)
    for (x, i, g), (their_x, their_i, their_g) in zip(*seen, strict=True):
        assert i == their_i
        np.testing.assert_allclose(flat(x), flat(their_x), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(flat(g), flat(their_g), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("start", [np.array([3.0, -2.0]), [1.0, 2], (np.float32([1, 2]), 3), 2.5,
                                   {"params": np.ones(2), "lr": 0.5}])
def test_every_nesting_comes_back_as_it_was(start: Any) -> None:
    end = ours.adam(lambda x, i: ours.mapped(lambda leaf: 2 * leaf, x), start, step_size=0.1, num_iters=200)
    assert type(end) is type(start) or isinstance(end, float)
    assert np.abs(flat(end)).max() < 0.1
    if isinstance(start, tuple):
        assert end[0].dtype == np.float32


def test_an_array_without_axes() -> None:
    found = ours.adam(lambda x, i: 2 * x, np.array(1.0), num_iters=3)
    assert found == pytest.approx(0.997, abs=1e-6)


def test_named_tuples() -> None:
    kind = namedtuple("kind", "a b")
    end = ours.sgd(lambda x, i: kind(2 * x.a, 2 * x.b), kind(np.ones(2), 1.0), num_iters=3)
    assert type(end) is kind


def test_any_optimizer_and_arguments_that_are_wrong() -> None:
    seen: list[Any] = []
    end = ours.optimizer(ol.Lion)(lambda x, i: 2 * x, np.ones(3), lambda x, i, g: seen.append(x), num_iters=5, lr=0.1)
    np.testing.assert_allclose(end, 0.5)
    np.testing.assert_allclose([x[0] for x in seen], [1, 0.9, 0.8, 0.7, 0.6])        # kept, not overwritten
    with pytest.raises(TypeError, match="Lion has no argument `step_size`"):
        ours.optimizer(ol.Lion)(lambda x, i: x, np.ones(3), step_size=1)
    with pytest.raises(TypeError, match="`kind` must step by a gradient, got LBFGS"):
        ours.optimizer(ol.LBFGS)
    with pytest.raises(TypeError, match="`kind` must be a class of optimlite's, got 'adam'"):
        ours.optimizer("adam")
    with pytest.raises(TypeError, match=r"`grad` must return the gradient .*, got .*3.0.*; .* grad\(loss\)"):
        ours.adam(lambda x, i: (x * x).sum(), np.ones(3))
    with pytest.raises(TypeError, match=r"adam has no argument `lr`; it has .*`step_size`"):
        ours.adam(lambda x, i: x, np.ones(3), lr=0.1)
    with pytest.raises(ValueError, match="`num_iters` must be >= 0, got -1"):
        ours.adam(lambda x, i: x, np.ones(3), num_iters=-1)
