"""Averages of parameters: the closed forms, the twin's bits, state, and functions of one's own."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from support.bits import same_bits

SHAPES = [(3,), (40, 50), (), (0, 2), (100_003,)]
FORMS: dict[str, dict[str, Any]] = {
    "mean": {}, "ema": {"decay": 0.9}, "corrected": {"decay": 0.9, "bias_correction": True}, "last": {"decay": 0.0},
}


def weights(form: str, steps: int) -> np.ndarray:
    """The weight of each of the values in the average, by its definition."""
    if form == "mean":
        return np.full(steps, 1 / steps)
    decay = FORMS[form]["decay"]
    w = (1 - decay) * decay ** np.arange(steps - 1, -1.0, -1)
    if form != "corrected":
        w[0] /= 1 - decay
    return w / w.sum()


def values(dtype: type, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]


@pytest.mark.parametrize("form", FORMS)
def test_the_closed_form(form: str) -> None:
    params = values(np.float64)
    average = ol.Average(params, **FORMS[form])
    history = []
    for step in range(7):
        for p, new in zip(params, values(np.float64, step), strict=True):
            p[...] = new
        history.append([p.copy() for p in params])
        average.update()
    for i, a in enumerate(average.averages):
        expected = sum(w * step[i] for w, step in zip(weights(form, 7), history, strict=True))
        np.testing.assert_allclose(a, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads_used", [1, 2, 3])
def test_the_bits_are_the_twins(dtype: type, threads_used: int, level: str, threads: None) -> None:
    ol.set_num_threads(threads_used)
    params, twins = values(dtype), [np.zeros(shape, dtype) for shape in SHAPES]
    average = ol.Average(params)
    for t in range(1, 6):
        for p, new in zip(params, values(dtype, t), strict=True):
            p[...] = new
        average.update()
        for a, p in zip(twins, params, strict=True):
            reference.RULES["mean"].update(SimpleNamespace(weight=dtype(1 / t)), a, p)
    assert all(map(same_bits, average.averages, twins))


def test_the_first_update_copies() -> None:
    for options in FORMS.values():
        params = values(np.float32)
        average = ol.Average(params, **options)
        average.update()
        assert all(map(same_bits, average.averages, params))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("travel", ["state_dict", "pickle", "deepcopy"])
def test_resume_is_exact(form: str, travel: str) -> None:
    params = values(np.float32)
    average = ol.Average(params, **FORMS[form])
    for _ in range(3):
        average.update()
    if travel == "state_dict":
        other_params = [p.copy() for p in params]
        other = ol.Average(other_params)
        other.load_state_dict(average.state_dict())
    else:
        other = copy.deepcopy(average) if travel == "deepcopy" else pickle.loads(pickle.dumps(average))
        other_params = [p.data for p in other._parameters]
    for p, q in zip(params, other_params, strict=True):
        p += 1
        q += 1
    average.update()
    other.update()
    assert other.n_averaged == 4
    assert all(map(same_bits, average.averages, other.averages))


def test_a_state_dict_is_a_snapshot() -> None:
    p = np.ones(3)
    average = ol.Average({"W": p})
    average.update()
    saved, live = average.state_dict(), average.state_dict(copy=False)
    p += 1
    average.update()
    assert saved["averages"][0].tolist() == [1, 1, 1]
    assert live["averages"][0].tolist() == [1.5, 1.5, 1.5]
    assert saved["param_names"] == ["W"]


@pytest.mark.parametrize(("change", "message"), [
    ({"averages": [np.zeros(3)]}, "has 1 averages, the model has 2"),
    ({"averages": [np.zeros(3), np.zeros(2)]}, "average of 'b' must be float64 of shape \\(\\)"),
    ({"averages": [np.zeros(3, np.float32), np.zeros(())]}, "average of 'W' must be float64"),
    ({"decay": 1.0}, "`decay` must be >= 0 and < 1, got 1.0"),
])
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    average = ol.Average({"W": np.ones(3), "b": np.ones(())})
    average.update()
    before = average.state_dict()
    with pytest.raises(ValueError, match=message):
        average.load_state_dict({**before, **change})
    assert [a.tolist() for a in average.averages] == [[1, 1, 1], 1]
    with pytest.raises(ValueError, match=r"lacks \['averages'\]"):
        average.load_state_dict({key: before[key] for key in before if key != "averages"})


def test_arguments_are_checked() -> None:
    p = np.ones(3)
    for decay in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="`decay`"):
            ol.Average([p], decay)
    with pytest.raises(ValueError, match="needs a `decay`"):
        ol.Average([p], bias_correction=True)
    with pytest.raises(ValueError, match="at least one"):
        ol.Average([])
    with pytest.raises(TypeError, match="float32 or float64"):
        ol.Average([np.ones(3, int)])
    with pytest.raises(ValueError, match="overlap"):
        ol.Average([p, p[1:]])
    with pytest.raises(RuntimeError, match="no average yet"), ol.Average([p]).swapped():
        pass


# A function of one's own ---------------------------------------------------------------------------------------------

def moving(average: np.ndarray, new: np.ndarray, n: int) -> np.ndarray:
    return 0.75 * average + 0.25 * new


def in_place(average: np.ndarray, new: np.ndarray, n: int) -> None:
    average *= 0.75
    average += 0.25 * new


@pytest.mark.parametrize("function", [moving, in_place])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_function_of_ones_own(function: Any, dtype: type) -> None:
    params = values(dtype)
    own, same = ol.Average(params, function=function), ol.Average(params, decay=0.75)
    memory = [a.ctypes.data for a in own.averages]
    for step in range(5):
        for p, new in zip(params, values(dtype, step), strict=True):
            p[...] = new
        own.update()
        same.update()
    for a, b in zip(own.averages, same.averages, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
        assert a.dtype == dtype
    assert own.n_averaged == 5
    assert memory == [a.ctypes.data for a in own.averages]
    other = pickle.loads(pickle.dumps(own))
    other.update()
    assert other.n_averaged == 6
    other.load_state_dict(own.state_dict())
    assert other.function is function
    assert other.n_averaged == 5
    assert f"function={function.__name__}" in repr(own)


def test_a_function_is_told_the_count_and_may_take_what_is_best() -> None:
    w = np.array([3.0])
    counts: list[int] = []
    largest = ol.Average([w], function=lambda a, p, n: (counts.append(n), np.maximum(a, p))[1])
    for value in (3.0, 5.0, 4.0):
        w[:] = value
        largest.update()
    assert largest.averages[0].tolist() == [5]
    assert counts == [1, 2]


def test_a_function_that_fails_or_misfits_changes_nothing() -> None:
    params = {"a": np.ones(2), "b": np.ones(3, np.float32)}

    def wrong(average: np.ndarray, new: np.ndarray, n: int) -> Any:
        average[:] = 7
        return average if len(new) == 2 else results.pop()

    results: list[Any] = [np.ones(2), np.ones(3, complex), "x"]
    average = ol.Average(params, function=wrong)
    average.update()
    for error in (ValueError, ValueError, ValueError, IndexError):
        with pytest.raises(error):
            average.update()
    broken = ol.Average([np.ones(2)], function=lambda a, p, n: np.add(p, 1, out=p))
    broken.update()
    with pytest.raises(ValueError, match="read-only"):
        broken.update()
    assert [a.tolist() for a in average.averages] == [[1, 1], [1, 1, 1]]
    assert average.n_averaged == 1
    with pytest.raises(TypeError, match="`function` must be a function"):
        ol.Average(params, function=0.9)                     # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give one of them"):
        ol.Average(params, 0.9, function=wrong)
    with pytest.raises(ValueError, match="has a `function` instead"):
        average.load_state_dict({**average.state_dict(), "decay": 0.5})
    for n_averaged in (-1, 1.5, "x"):
        with pytest.raises((ValueError, TypeError), match="n_averaged"):
            average.load_state_dict({**average.state_dict(), "n_averaged": n_averaged,
                                     "averages": [np.zeros(2), np.zeros(3, np.float32)]})
    assert [a.tolist() for a in average.averages] == [[1, 1], [1, 1, 1]]


def test_a_pickle_from_before_an_option_existed() -> None:
    average = ol.Average([w := np.ones(2)], 0.5)
    state = average.__getstate__()
    del state["optimizer"]
    older = ol.Average.__new__(ol.Average)
    older.__setstate__(state)
    older.update()
    assert older.optimizer is None
    assert (older.averages[0] == w).all()


@pytest.mark.parametrize("optimizer", [3, ol.Adam, "adam"])
def test_what_is_no_optimizer(optimizer: Any) -> None:
    with pytest.raises(TypeError, match=r"^`optimizer` must be an optimizer, the one that steps the parameters, got "):
        ol.Average([np.ones(2)], optimizer=optimizer)
