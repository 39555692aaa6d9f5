"""Averages of parameters: the closed forms, the twin's bits, swapping in and out, and state."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
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


def test_swapping_in_and_out_keeps_every_bit() -> None:
    p = ol.Parameter(np.array([1.0, np.nan, -0.0], np.float32), "p")
    opt = ol.SGD([p], lr=1)
    average = ol.Average([p])
    average.update()
    opt.step(grads=[np.full(3, 2, np.float32)])
    average.update()
    own, averaged = p.data.copy(), average.averages[0].copy()

    def evaluate() -> None:
        with average.swapped():
            assert same_bits(p.data, averaged)
            with pytest.raises(RuntimeError, match="swapped in"):
                average.update()
            with pytest.raises(RuntimeError, match="already"), average.swapped():
                pass
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        evaluate()
    assert same_bits(p.data, own)
    assert same_bits(average.averages[0], averaged)
    assert p.data[0] == -1
    assert averaged[0] == 0


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


# While it is swapped in ----------------------------------------------------------------------------------------------

def halfway() -> tuple[np.ndarray, ol.Average]:
    """A parameter that is 2, with the average 1."""
    w = np.array([0.0])
    average = ol.Average({"w": w}, decay=0.5)
    average.update()
    w[:] = 2
    average.update()
    return w, average


def test_what_is_read_of_a_swapped_in_average_is_the_average() -> None:
    w, average = halfway()
    before = average.averages[0]
    with average.swapped():
        inside = average.averages[0]
        assert before.tolist() == inside.tolist() == average.state_dict()["averages"][0].tolist() == [1]
        assert average.state_dict(copy=False)["averages"][0].tolist() == [1]
        w[:] = 5                                 # as documented, this is of the average
        assert average.averages[0].tolist() == average.state_dict()["averages"][0].tolist() == [5]
    assert (w.tolist(), before.tolist(), inside.tolist()) == ([2], [5], [5])


@pytest.mark.parametrize("travel", [lambda found: pickle.loads(pickle.dumps(found)), copy.deepcopy])
def test_what_is_pickled_while_it_is_swapped_in_is_as_outside(travel: Any) -> None:
    w, average = halfway()
    with average.swapped():
        assert w.tolist() == [1]
        model, other = travel(({"w": w}, average))
        alone = travel(average)
        shallow = copy.copy(average)
        assert w.tolist() == [1]
    for each in (other, alone):
        assert each.averages[0].tolist() == [1]
        assert each._parameters[0].data.tolist() == [2]
        each.update()                            # it isn't swapped in
        assert each.averages[0].tolist() == [1.5]
    assert model["w"].tolist() == [2]
    assert model["w"] is other._parameters[0].data
    assert w.tolist() == [2]
    assert shallow.averages[0].tolist() == [1]


def test_what_is_loaded_while_it_is_swapped_in_is_the_average() -> None:
    w, average = halfway()
    saved = {**average.state_dict(), "averages": [np.array([7.0])]}
    with average.swapped():
        average.load_state_dict(saved)
        assert w.tolist() == [7]
    assert (w.tolist(), average.averages[0].tolist()) == ([2], [7])


FORMS_OF_A_MODEL: dict[str, Any] = {
    "array": lambda w: {"w": w}, "Parameter": lambda w: [ol.Parameter(w)], "view": lambda w: w[:],
    "reversed": lambda w: w[::-1], "reshaped": lambda w: (w.reshape(1, 1), w.view(np.uint8)),
}


@pytest.mark.parametrize("form", FORMS_OF_A_MODEL)
@pytest.mark.parametrize("inside", ["save", "restore", "background", "folder"])
def test_a_file_saved_or_restored_while_an_average_is_swapped_in(tmp_path: Path, form: str, inside: str) -> None:
    w, average = halfway()
    if inside == "restore":
        ol.save(tmp_path / "a", model=FORMS_OF_A_MODEL[form](w), average=average)
    else:
        with average.swapped():
            if inside == "folder":
                ol.Checkpoints(tmp_path / "run").save(model=FORMS_OF_A_MODEL[form](w), average=average)
            else:
                ol.save(tmp_path / "a", model=FORMS_OF_A_MODEL[form](w), average=average,
                        background=inside == "background")
    path = tmp_path / "run" / "checkpoint-000001.safetensors" if inside == "folder" else tmp_path / "a"
    w[:] = 8
    average.update()
    if inside == "restore":
        with average.swapped():
            ol.restore(path, model=FORMS_OF_A_MODEL[form](w), average=average)
            assert w.tolist() == [1]
    else:
        ol.restore(path, model=FORMS_OF_A_MODEL[form](w), average=average)
    assert (w.tolist(), average.averages[0].tolist()) == ([2], [1])


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_that_holds_parameters_among_others_is_saved_with_their_own_values(tmp_path: Path, order: Any) -> None:
    whole = np.arange(60.0).reshape(3, 20)
    own = whole.copy()
    parts = [whole[0, :8].reshape((2, 4), order=order), whole[1]]
    average = ol.Average(parts)
    average.update()
    whole += 1
    own += 1
    with average.swapped():
        assert not np.array_equal(whole, own)
        ol.save(tmp_path / "a", whole=whole, odd=whole[::-2, 1::3], part=parts[0].T, other=whole[2])
        with pytest.raises(RuntimeError, match="swapped in for a part of an array"):
            ol.restore(tmp_path / "a", whole=whole, odd=whole[::-2, 1::3].copy(), part=parts[0].T, other=whole[2])
    found = ol.load(tmp_path / "a")
    assert np.array_equal(found["whole"], own)
    assert np.array_equal(found["odd"], own[::-2, 1::3])
    assert np.array_equal(found["part"], own[0, :8].reshape((2, 4), order=order).T)
    assert np.array_equal(found["other"], own[2])
    assert np.array_equal(whole, own)


def test_two_averages_of_the_same_parameters_are_not_in_their_place_at_once() -> None:
    w, average = halfway()
    other = ol.Average([w[:]])
    other.update()
    apart = ol.Average([np.ones(2)])
    apart.update()
    with average.swapped(), apart.swapped():
        with pytest.raises(RuntimeError, match="already"), other.swapped():
            pass
        with pytest.raises(RuntimeError, match="swapped in"):
            other.update()                       # which would take the average for the parameters
    other.update()
    with other.swapped():
        assert w.tolist() == [2]


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
