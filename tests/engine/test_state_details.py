"""The details of state and state dicts that a small slip would change: copies, orders, versions."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.engine import state_dict
from optimlite.engine.state import State, StateMap, Version, check_distinct
from support.details import a, adam, b, c, stepped
from support.helpers import PlainMomentum, content

# State ---------------------------------------------------------------------------------------------------------------

def test_every_change_of_an_entry_is_noticed() -> None:
    version = Version()
    state = State(version)

    def noticed(act: Any) -> Any:
        before = version.count
        result = act()
        assert version.count == before + 1
        return result

    noticed(lambda: state.__setitem__("m", a))
    assert state["m"] is a
    state["m"] = a                                   # the same array
    assert version.count == 1
    noticed(lambda: state.update({"n": 3}))
    assert (state["n"].shape, state["n"].dtype) == ((), np.int64)
    noticed(lambda: state.update([("v", 0.5)]))
    noticed(lambda: state.update(w=True))
    assert state["w"].dtype == bool
    before = state
    state |= {"m": b}
    assert state is before
    assert version.count == 5
    assert state["m"] is b
    assert noticed(lambda: state.setdefault("x")) == 0
    assert noticed(lambda: state.setdefault("y", 4)) == 4
    assert state.setdefault("y", 5) == 4
    assert version.count == 7
    noticed(lambda: state.__delitem__("x"))
    assert "x" not in state
    assert noticed(lambda: state.pop("m")) is b
    assert state.pop("m", 9) == 9
    assert state.popitem()[0] == "y"
    assert version.count == 11
    noticed(state.clear)
    assert state == {}
    state["m"] = a
    copied = pickle.loads(pickle.dumps(state))
    assert type(copied) is dict
    assert content(copied["m"]) == content(a)


def test_the_map_of_states() -> None:
    optimizer = adam()
    states, (W, bias) = optimizer.state, optimizer.param_groups[0]["params"]
    version = states.version
    assert (len(states), list(states), repr(states), W in states, "V" in states) == (0, [], "{}", False, False)
    states[W]["m"] = 1
    assert states.version > version
    assert (len(states), list(states), W in states, "W" in states, "b" in states) == (1, [W], True, True, False)
    assert repr(states) == f"{{'W': {states['W']!r}}}"
    states[bias]["m"] = 2
    assert repr(states) == f"{{'W': {states['W']!r}, 'b': {states['b']!r}}}"
    assert states[W] is states["W"] is states[W.data]
    assert states.find("b") is states.find(bias.data) is states.find(bias) is bias
    assert states.name_of(W) == "W"
    assert list(states.labels()) == ["parameter 'W'", "state `m` of 'W'", "parameter 'b'", "state `m` of 'b'"]
    assert [array is other for array, other in zip(states.arrays(), (
        W.data, states[W]["m"], bias.data, states[bias]["m"]), strict=True)] == [True] * 4
    assert states.unique_names()
    assert not ol.SGD([ol.Parameter(np.ones(1), "W"), ol.Parameter(np.ones(1), "W")]).state.unique_names()
    assert isinstance(states, StateMap)
    check_distinct(["one", "two", "three"], [c[:1], c[1:], c[:0]])       # side by side; nothing overlaps nothing
    with pytest.raises(ValueError, match=r"^one and two overlap"):
        check_distinct(["one", "two"], [c, c])


# State dicts ---------------------------------------------------------------------------------------------------------

def test_copies_keep_the_layout_and_live_ones_are_the_arrays() -> None:
    optimizer = ol.Adam({"W": np.asfortranarray(np.ones((2, 3), np.float32))})
    stepped(optimizer)
    copied, live = optimizer.state_dict()["state"][0], optimizer.state_dict(copy=False)["state"][0]
    assert copied["exp_avg"].flags.f_contiguous
    assert copied["exp_avg"] is not optimizer.state["W"]["exp_avg"]
    assert live["exp_avg"] is optimizer.state["W"]["exp_avg"]
    saved = optimizer.state_dict()
    saved["state"][0]["exp_avg"] = np.ascontiguousarray(saved["state"][0]["exp_avg"])
    fresh = ol.Adam({"W": np.asfortranarray(np.ones((2, 3), np.float32))})
    fresh.load_state_dict(saved)
    assert fresh.state["W"]["exp_avg"].flags.f_contiguous
    stepped(fresh)


def test_positions_count_on_over_the_groups() -> None:
    optimizer = ol.Adam([{"params": [np.ones(1), np.ones(2)]}, {"params": [np.ones(3)]}, {"params": []},
                         {"params": [np.ones(4)]}])
    stepped(optimizer)
    saved = optimizer.state_dict()
    assert [group["params"] for group in saved["param_groups"]] == [[0, 1], [2], [], [3]]
    assert [entry["exp_avg"].shape for entry in saved["state"].values()] == [(1,), (2,), (3,), (4,)]


def test_groups_that_gather_from_several_keep_their_own_values() -> None:
    source = ol.SGD([{"params": {"W": np.ones(1)}, "lr": 0.1}, {"params": {"b": np.ones(1)}, "lr": 0.2},
                     {"params": {"c": np.ones(1), "d": np.ones(1)}, "lr": 0.3}])
    target = ol.SGD([{"params": {"d": np.ones(1), "c": np.ones(1)}, "lr": 0.7},
                     {"params": {"b": np.ones(1), "W": np.ones(1)}, "lr": 0.8, "name": "gathers"}])
    problems = target.load_state_dict(source.state_dict(), strict=False)
    assert problems == ([], [], ["group 1 gathers parameters of 2 saved groups, so its hyper-parameters are kept"], [])
    assert [group["lr"] for group in target.param_groups] == [0.3, 0.8]
    assert target.param_groups[0]["param_names"] == ["d", "c"]


def test_execution_flags_and_names_are_not_loaded_as_hyper_parameters() -> None:
    saved = stepped(adam()).state_dict()
    saved["param_groups"][0].update(foreach=None, fused=True, capturable=False, differentiable=False, mine=[1])
    optimizer = adam()
    optimizer.param_groups[0]["mine"] = []
    assert optimizer.load_state_dict(saved) == ([], [], [], [])
    group = optimizer.param_groups[0]
    assert not {"foreach", "fused", "capturable", "differentiable"} & set(group)
    assert group["mine"] == [1]
    assert group["mine"] is not saved["param_groups"][0]["mine"]


@pytest.mark.parametrize(("array", "like", "reason"), [
    (np.ones(2), np.ones(2), ""), (np.array("x"), None, "is <U1, not a numeric array"),
    (np.ones(2, complex), np.ones(2), "is complex128, which isn't cast to float64"), (np.ones(5, bool), None, ""),
    (np.ones(2), np.ones(3), "has shape (2,), not (3,)"), (np.full(2, 0.5), np.ones(2, np.float32), ""),
    (np.full(2, 0.1), np.ones(2, np.float32), "is float64 and would lose values as float32"),
    (np.full(2, np.nan), np.ones(2, np.float32), ""), (np.array(2.0), np.array(1), ""),
    (np.array(2.5), np.array(1), "is float64 and would lose values as int64"),
    (np.array(2 ** 60 + 1), np.array(1.0), "is int64 and would lose values as float64")], ids=str)
def test_why_an_array_does_not_fit(array: Any, like: Any, reason: str) -> None:
    assert state_dict.misfit(array, like) == reason


@pytest.mark.parametrize(("array", "reason"), [
    (np.array(0), ""), (np.array(2 ** 53), ""), (np.array(0.5), ""), (np.array(-0.5), ""),
    (np.array(2 ** 53 + 1), f"is {2 ** 53 + 1}, and counts go from 0 to 2**53"),
    (np.array(-1, np.int8), "is -1, and counts go from 0 to 2**53")], ids=str)
def test_why_an_integer_is_no_count(array: Any, reason: str) -> None:
    assert state_dict.no_count(array) == reason


def test_only_counts_must_be_counts() -> None:
    """Integers of one's own may be of any shape and sign."""
    optimizer, fresh = PlainMomentum([np.ones(2)]), PlainMomentum([np.ones(2)])
    optimizer.state["0"]["seen"] = np.array([-1, 3])
    fresh.load_state_dict(optimizer.state_dict())
    assert content(fresh.state["0"]["seen"]) == content(np.array([-1, 3]))


def test_arrays_that_are_not_in_memory_are_read_only_where_their_values_count() -> None:
    class Stored(state_dict.Deferred):
        def __init__(self, array: np.ndarray) -> None:
            self.array, self.shape, self.dtype = array, array.shape, array.dtype

        def read(self) -> np.ndarray:
            return self.array

    saved = stepped(adam()).state_dict()
    entries = saved["state"][0]
    same, other, counter = (Stored(array) for array in (
        entries["exp_avg"], entries["exp_avg_sq"].astype(np.float64), entries["step"]))
    saved["state"][0] = {"exp_avg": same, "exp_avg_sq": other, "step": counter}
    problems, states, _ = state_dict.fit(adam(), saved)
    found = states[0][1]
    assert problems == ([], [], [], [])
    assert list(found) == ["exp_avg", "exp_avg_sq", "step"]
    assert found["exp_avg"] is same
    assert content(found["exp_avg_sq"]) == content(entries["exp_avg_sq"])        # another type: cast without loss
    assert content(found["step"]) == content(entries["step"])                    # a count: must be in its range


def test_arrays_come_from_tensors_numbers_and_swapped_bytes() -> None:
    class Tensor:
        """As torch's look from outside."""

        is_sparse = False
        dtype = "torch.float32"

        def __init__(self, *calls: str) -> None:
            self.calls = list(calls)

        def __getattr__(self, name: str) -> Any:
            if name not in ("detach", "cpu", "float", "to_dense", "numpy"):
                raise AttributeError(name)
            self.calls.append(name)
            return (lambda: np.ones(2)) if name == "numpy" else lambda: self

    plain, half, sparse = Tensor(), Tensor(), Tensor()
    half.dtype, sparse.is_sparse = "torch.bfloat16", True
    assert content(state_dict.as_array(plain)) == content(np.ones(2))
    assert plain.calls[-3:] == ["detach", "cpu", "numpy"]
    state_dict.as_array(half)
    assert half.calls[-4:] == ["detach", "cpu", "float", "numpy"]
    state_dict.as_array(sparse)
    assert sparse.calls[-4:] == ["detach", "cpu", "to_dense", "numpy"]
    assert content(state_dict.as_array(3)) == content(np.array(3))
    swapped = state_dict.as_array(np.array([1.5, 2], ">f4"))
    assert content(swapped) == content(np.array([1.5, 2], "<f4"))
    deferred = state_dict.Deferred()
    assert state_dict.as_array(deferred) is deferred
    with pytest.raises(NotImplementedError):
        deferred.read()


def test_what_is_missing_and_unexpected_is_told_and_the_rest_is_loaded() -> None:
    saved = stepped(adam(), 3).state_dict()
    saved["state"][7] = {}
    saved["state"][0] = {"mine": 1, **saved["state"][0]}
    del saved["param_groups"][0]["eps"]
    optimizer = adam(eps=0.5)
    assert optimizer.load_state_dict(saved, strict=False) == (
        ["hyper-parameter `eps` of group 0"], ["state[7]", "state['W']['mine']"], [], [])
    assert optimizer.param_groups[0]["eps"] == 0.5
    assert list(optimizer.state["W"]) == ["exp_avg", "exp_avg_sq", "step"]
    assert int(optimizer.state["W"]["step"]) == 3


# What is told apart and what is not ----------------------------------------------------------------------------------

def test_versions_count_every_registration_and_load() -> None:
    optimizer = adam()
    versions = [optimizer.state.version]
    optimizer.add_param_group({"params": [np.ones(2, np.float32)]})
    versions.append(optimizer.state.version)
    optimizer.add_param_group({"params": [np.ones(2, np.float32), np.ones(1, np.float32)]})
    versions.append(optimizer.state.version)
    optimizer.load_state_dict(optimizer.state_dict())
    versions.append(optimizer.state.version)
    assert versions == sorted(set(versions))
    assert versions[2] == versions[1] + 2


def test_layouts_that_are_checked_name_what_came() -> None:
    with pytest.raises(TypeError, match=r"^group 0 of a state dict must have a list 'params', got 'W'$"):
        adam().load_state_dict({"state": {}, "param_groups": [{"params": "W"}]})
    with pytest.raises(ValueError, match=r"and 'param_groups', got int$"):
        adam().load_state_dict(3)  # type: ignore[arg-type]


def test_saved_groups_hold_the_values_and_positions_alone() -> None:
    saved = adam().state_dict()
    assert saved["param_groups"][0]["params"] == [0, 1]
    assert "params" in saved["param_groups"][0]
    assert not any(isinstance(value, tuple) and value and isinstance(value[0], ol.Parameter)
                   for value in saved["param_groups"][0].values())


def test_loading_state_that_overlaps_live_memory_copies_it() -> None:
    optimizer = stepped(adam(), 2)
    saved = optimizer.state_dict(copy=False)
    one, other = optimizer.state["W"]["exp_avg"].copy(), optimizer.state["W"]["exp_avg_sq"].copy()
    entries = dict(saved["state"][0])
    saved["state"][0] = {**entries, "exp_avg": entries["exp_avg_sq"], "exp_avg_sq": entries["exp_avg"]}
    optimizer.load_state_dict(saved)
    assert content(optimizer.state["W"]["exp_avg"]) == content(other)
    assert content(optimizer.state["W"]["exp_avg_sq"]) == content(one)


def test_loading_a_view_that_runs_back_into_live_memory_copies_it() -> None:
    memory = np.arange(13, dtype=np.float32)
    optimizer = stepped(adam())
    state = optimizer.state["W"]
    state["exp_avg"], state["exp_avg_sq"] = memory[:6].reshape(2, 3), memory[6:12].reshape(2, 3)
    saved = optimizer.state_dict()
    saved["state"][0]["exp_avg"] = np.zeros((2, 3), np.float32)
    saved["state"][0]["exp_avg_sq"] = memory[:0:-2].reshape(2, 3)                # it begins behind both
    optimizer.load_state_dict(saved)
    assert state["exp_avg_sq"].tolist() == [[12, 10, 8], [6, 4, 2]]
    assert not state["exp_avg"].any()


def test_a_parameter_of_a_subclass_gets_plain_state() -> None:
    class Mine(np.ndarray):
        pass

    optimizer = ol.Adam({"W": np.ones(3, np.float32).view(Mine), "b": np.ones(3, np.float32)})
    optimizer.load_state_dict(stepped(ol.Adam({"W": np.ones(3, np.float32), "b": np.ones(3, np.float32)})).state_dict())
    assert type(optimizer.state["W"]["exp_avg"]) is np.ndarray
    optimizer.param_groups[0]["amsgrad"] = True
    assert type(optimizer.state_dict()["state"][0]["max_exp_avg_sq"]) is np.ndarray      # which the next step adds


def test_state_of_ones_own_optimizer_must_fit_the_state_that_is_there() -> None:
    optimizer = stepped(PlainMomentum([np.ones(3)]))
    saved = optimizer.state_dict()
    saved["state"][0]["average"] = np.ones(4)
    with pytest.raises(ValueError, match=r"has shape \(4,\), not \(3,\)"):
        optimizer.load_state_dict(saved)
    assert PlainMomentum([np.ones(3)]).load_state_dict(saved) == ([], [], [], [])       # nothing is there to tell
