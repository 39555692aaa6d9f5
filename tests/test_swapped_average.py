"""What an average means while it is swapped in: reads, pickles, files and loads are as outside."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import same_bits


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


def test_a_pickle_of_an_average_that_is_swapped_in_beside_a_shadow() -> None:
    parameter = ol.Parameter(np.ones(3, np.float32), shadow=np.ones(3, np.float16))
    average = ol.Average([parameter], 0.5)
    average.update()
    parameter.data[...] = 3.0
    average.update()
    with average.swapped():
        copied = pickle.loads(pickle.dumps(average))
    assert copied.averages[0].tolist() == [2.0] * 3
    assert copied._parameters[0].data.tolist() == [3.0] * 3
