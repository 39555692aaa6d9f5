"""Restoring into live objects: in their memory, all or nothing, and with every mismatch named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.checkpoint.reader import File
from support.checkpoints import bits, same, training


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("stepped", [0, 2])                   # state that is made anew, and state that is there
def test_restore_writes_into_the_live_memory(tmp_path: Path, verify: bool, stepped: int) -> None:
    saved, live = training(), training(seed=1, steps=stepped)
    ol.save(tmp_path / "a", **saved, epoch=7)
    memory = [array.ctypes.data for array in live["optimizer"].state.arrays()]
    assert ol.restore(tmp_path / "a", verify=verify, **live) == {"epoch": 7}
    assert bits(live) == bits(saved)
    after = [array.ctypes.data for array in live["optimizer"].state.arrays()]
    assert after == memory if stepped else set(memory) < set(after)
    gradients = [np.ones((6, 5), np.float32), np.ones((3, 4))]
    for parts in (saved, live):
        parts["optimizer"].step(grads=gradients)
        parts["scheduler"].step()
    assert bits(live) == bits(saved)


def test_state_comes_back_in_its_order(tmp_path: Path) -> None:
    optimizer = ol.RMSprop([np.ones(3)])
    optimizer.step(grads=[np.ones(3)])
    optimizer.param_groups[0]["centered"] = True          # what the next step would add is saved, too
    ol.save(tmp_path / "a", optimizer=optimizer)
    fresh = ol.RMSprop([np.ones(3)])
    ol.restore(tmp_path / "a", optimizer=fresh)
    orders = [list(each.state_dict()["state"][0]) for each in (optimizer, fresh)]
    assert orders == [["square_avg", "step", "grad_avg"]] * 2


@pytest.mark.parametrize("kind", [ol.Adam, ol.RMSprop, ol.Muon, ol.LBFGS, ol.ConjugateGradient])
@pytest.mark.parametrize("order", ["C", "F"])
def test_state_of_another_type_is_laid_out_as_its_parameter(tmp_path: Path, kind: Any, order: Any) -> None:
    def step(optimizer: ol.Optimizer, W: np.ndarray) -> np.ndarray:
        optimizer.step(lambda: (float((W**2).sum()), {"W": np.asarray(2 * W, order=order)}))
        return W

    W = np.asarray(np.linspace(1, 2, 12).reshape(3, 4), np.float32, order=order)
    saved = kind({"W": W})
    step(saved, W)
    ol.save(tmp_path / "a", optimizer=saved)
    wide = [W.astype(np.float64, order="K") for _ in range(2)]
    by_file, by_dict = (kind({"W": each}) for each in wide)
    ol.restore(tmp_path / "a", optimizer=by_file)
    by_dict.load_state_dict(saved.state_dict())
    assert step(by_file, wide[0]).tobytes() == step(by_dict, wide[1]).tobytes()


def test_no_two_parameters_get_one_array(tmp_path: Path) -> None:
    """Even if the file says that their state is the same."""
    optimizer = ol.Adam([np.ones(3), np.ones(3)])
    optimizer.step(grads=[np.ones(3)] * 2)
    odd = optimizer.state_dict()
    odd["param_groups"][0]["params"] = [0, 0]
    del odd["state"][1]
    ol.save(tmp_path / "a", optimizer=odd)
    fresh = ol.Adam([np.ones(3), np.ones(3)])
    ol.restore(tmp_path / "a", optimizer=fresh)
    fresh.step(grads=[np.ones(3)] * 2)
    assert [state["step"] for state in fresh.state_dict()["state"].values()] == [2, 2]


def test_an_array_among_a_groups_own_keys(tmp_path: Path) -> None:
    optimizer = ol.SGD([np.ones(3)], lr=1)
    optimizer.param_groups[0]["note"] = {"seen": [np.arange(3), np.int64(7)]}
    ol.save(tmp_path / "a", optimizer=optimizer)
    fresh = ol.SGD([np.ones(3)], lr=1)
    with pytest.raises(ValueError, match="unexpected: optimizer: `note` of group 0"):    # it may be a later version's
        ol.restore(tmp_path / "a", optimizer=fresh)
    fresh.param_groups[0]["note"] = None
    ol.restore(tmp_path / "a", optimizer=fresh)
    assert same(fresh.param_groups[0]["note"], {"seen": [np.arange(3), 7]})
    ol.save(tmp_path / "b", optimizer=fresh)
    damage(tmp_path / "a", "optimizer.param_groups.0.note.seen.0")
    with pytest.raises(ol.CheckpointError, match=r"note.seen.0' is damaged"):
        ol.restore(tmp_path / "a", optimizer=fresh)


def damage(path: Path, name: str) -> None:
    with File(path) as file:
        begin = file.tensors[name].begin
    data = bytearray(path.read_bytes())
    data[begin] ^= 1
    path.write_bytes(data)


def test_a_damaged_count_is_a_fault_where_it_is_restored(tmp_path: Path) -> None:
    optimizer = ol.Adam({"a": np.ones(3), "b": np.ones(4)})
    optimizer.step(grads={"a": np.ones(3), "b": np.ones(4)})
    ol.save(tmp_path / "a", optimizer=optimizer)
    damage(tmp_path / "a", "optimizer.state.1.step")
    a, b = ol.Adam({"a": np.ones(3)}), ol.Adam({"b": np.ones(4)})
    assert ol.restore(tmp_path / "a", optimizer=a, strict=False).missing == []
    assert a.state["a"]["step"] == 1
    with pytest.raises(ol.CheckpointError, match=r"'optimizer.state.1.step' is damaged"):
        ol.restore(tmp_path / "a", optimizer=b, strict=False)


def test_a_mismatch_names_every_key_and_changes_nothing(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", **training(), epoch=1, other=np.ones(2))
    live = training(seed=1)
    wrong = {"W": live["model"]["W"], "b": np.zeros((4, 3)), "c": np.zeros(2)}
    frozen = np.zeros((6, 5), np.float32)
    frozen.flags.writeable = False
    before = bits(live)
    with pytest.raises(ValueError, match="doesn't fit") as caught:
        ol.restore(tmp_path / "a", **{**live, "model": wrong}, absent=3)
    text = str(caught.value)
    for line in (str(tmp_path / "a"), "missing: model.c, part 'absent'",
                 "unexpected: part 'other'", "misshapen: model.b has shape (3, 4) in the file, not (4, 3)"):
        assert line in text
    assert bits(live) == before
    with pytest.raises(ValueError, match=r"model.W has read-only memory"):
        ol.restore(tmp_path / "a", strict=True, model={"W": frozen, "b": np.zeros((3, 4))})
    rest = ol.restore(tmp_path / "a", strict=False, **{**live, "model": wrong}, absent=3)
    assert (rest.missing, rest.unexpected) == (["model.c", "part 'absent'"], ["part 'other'"])
    assert len(rest.misshapen) == 1
    assert rest == {"epoch": 1}
    assert same(live["model"]["W"].data, training()["model"]["W"].data)


def test_an_optimizer_or_scheduler_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", **training())
    live = training(seed=1)
    before = bits(live)
    other = ol.Adam([np.zeros((6, 5), np.float32)])
    with pytest.raises(ValueError, match="part 'optimizer' doesn't fit"):
        ol.restore(tmp_path / "a", model=live["model"], optimizer=other, scheduler=live["scheduler"])
    other = ol.lr_scheduler.StepLR(ol.SGD([np.zeros(1)], lr=1), 3)
    with pytest.raises(ValueError, match="part 'scheduler' doesn't fit"):
        ol.restore(tmp_path / "a", model=live["model"], optimizer=live["optimizer"], scheduler=other)
    swapped = ol.AdamW({"W": np.zeros((6, 5), np.float32), "b": np.zeros((4, 3))})
    with pytest.raises(ValueError, match=r"misshapen: optimizer: state\['b'\]"):
        ol.restore(tmp_path / "a", model=live["model"], optimizer=swapped, scheduler=live["scheduler"])
    assert bits(live) == before


class Average:
    """Somebody's own object with a state, which refuses negative values."""

    def __init__(self, value: float) -> None:
        self.values, self.count = np.full(4, value), 0

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values.copy(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        if (state["values"] < 0).any():
            raise ValueError("values must be >= 0")
        self.values[:] = state["values"]


def test_objects_with_a_state_dict_are_put_back_together_or_not_at_all(tmp_path: Path) -> None:
    good, bad = Average(2), Average(-1)
    good.count = bad.count = 5
    W = np.ones(3)
    ol.save(tmp_path / "a", W=W, one=good, two=bad)
    one, two, live = Average(0), Average(0), np.zeros(3)
    with pytest.raises(ValueError, match="must be >= 0"):
        ol.restore(tmp_path / "a", W=live, one=one, two=two)
    assert (one.values == 0).all()
    assert one.count == two.count == 0
    assert (live == 0).all()
    ol.save(tmp_path / "a", W=W, one=good)
    ol.restore(tmp_path / "a", W=live, one=one)
    assert (one.values == 2).all()
    assert one.count == 5


def test_averages_are_restored_in_place(tmp_path: Path) -> None:
    def average(value: float, updates: int) -> tuple[ol.Average, np.ndarray]:
        W = np.full((3, 4), value, np.float32)
        made = ol.Average({"W": W}, decay=0.5)
        for _ in range(updates):
            made.update()
            W += 1
        return made, W

    saved, _ = average(1.0, 3)
    ol.save(tmp_path / "a", average=saved)
    live, _ = average(7.0, 1)
    memory = live.averages[0].ctypes.data
    ol.restore(tmp_path / "a", average=live)
    assert same(live.state_dict(), saved.state_dict())
    assert live.averages[0].ctypes.data == memory
    other = ol.Average({"W": np.ones((4, 3), np.float32)}, decay=0.9)
    with pytest.raises(ValueError, match="average of 'W' must be"):
        ol.restore(tmp_path / "a", average=other)
    assert other.n_averaged == 0


def test_values_are_cast_only_where_none_is_lost(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", part=np.array([1.0, np.nan, 0.5]))
    live = np.zeros(3, np.float32)
    ol.restore(tmp_path / "a", part=live)
    assert same(live, np.array([1.0, np.nan, 0.5], np.float32))
    for values, dtype in (([0.1], np.float32), ([1.5], np.int64), ([1j], np.float64), ([300], np.uint8)):
        ol.save(tmp_path / "a", part=np.array(values))
        live = np.zeros(1, dtype)
        with pytest.raises(ValueError, match=r"misshapen: part is .* would lose values as"):
            ol.restore(tmp_path / "a", part=live)
        assert live[0] == 0
