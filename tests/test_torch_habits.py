"""What users of torch write from habit: it works, or says at once what to write."""

from __future__ import annotations

import numpy as np
import pytest

import optimlite as ol
from optimlite.native import threads
from support.cases import OPTIMIZERS


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_hyper_parameter_assigned_to_the_optimizer(optimizer: type[ol.Optimizer]) -> None:
    made = optimizer([np.ones((3, 1))])
    for name in made.defaults:
        with pytest.raises(AttributeError, match=rf"opt.param_groups\[0\]\[\"{name}\"\] = 0.1"):
            setattr(made, name, 0.1)
        assert not hasattr(made, name)
        assert not hasattr(optimizer, name)
    made.note = "an attribute of the user's"     # type: ignore[attr-defined]


def test_a_subclass_keeps_attributes_of_its_own() -> None:
    class Own(ol.SGD):
        lr = property(lambda self: self.param_groups[0]["lr"])

    assert Own([np.ones(3)], lr=0.5).lr == 0.5


def test_state_is_cleared_and_deleted() -> None:
    w = np.zeros(3)
    optimizer = ol.SGD({"w": w, "b": np.zeros(2)}, lr=1.0, momentum=0.5)
    grads = {"w": np.ones(3), "b": np.ones(2)}
    optimizer.step(grads=grads)
    optimizer.state.clear()
    assert not optimizer.state
    optimizer.step(grads=grads)
    assert list(w) == [-2] * 3                   # without the momentum of the first step
    del optimizer.state["w"]
    assert [p.name for p in optimizer.state] == ["b"]
    optimizer.step(grads=grads)
    assert list(w) == [-3] * 3
    assert list(optimizer.state["b"]["momentum_buffer"]) == [1.5] * 2
    with pytest.raises(KeyError, match="no parameter 'c'"):
        del optimizer.state["c"]


@pytest.mark.parametrize(("wrong", "right"), [
    ("SDG", "SGD"), ("adam", "Adam"), ("AdamWW", "AdamW"), ("StepLR", "lr_scheduler.StepLR")])
def test_a_misspelt_or_misplaced_name(wrong: str, right: str) -> None:
    with pytest.raises(AttributeError, match=f"no attribute '{wrong}'; did you mean `{right}`"):
        getattr(ol, wrong)


def test_a_name_that_resembles_nothing() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'quux'$"):
        ol.quux                                  # noqa: B018
    assert not hasattr(ol, "__wrapped__")


@pytest.mark.parametrize(("optimizer", "meant"), [
    (ol.RMSprop, "alpha"), (ol.Adadelta, "rho"), (ol.Adam, "weight_decay")])
def test_decay_is_that_of_the_mean_of_squares_where_there_is_one(optimizer: type[ol.Optimizer], meant: str) -> None:
    with pytest.raises(TypeError, match=f"did you mean `{meant}`"):
        optimizer([np.ones(3)], decay=0.9)


@pytest.mark.parametrize(("quota", "cpus"), [("150000", 2), ("50000", 1), ("-1", 1 << 30), ("", 1 << 30)])
def test_the_quota_of_a_container_of_version_1(
        quota: str, cpus: int, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cpu"                    # type: ignore[operator]
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text(quota + "\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    monkeypatch.setattr(threads, "CGROUPS", str(tmp_path))
    assert threads._quota() == cpus


def test_an_optimizer_that_keeps_nothing_keeps_no_rounding() -> None:
    """The mean with weight 0 for what was: a small square after a large one."""
    p = np.zeros(4, np.float32)
    adafactor = ol.Adafactor([p], lr=0, beta2_decay=0.0)
    for value in (1, 1e-4):
        adafactor.step(grads=[np.full(4, value, np.float32)])
    assert adafactor.state[p]["variance"] == pytest.approx(1e-8, rel=1e-6)
    m = np.zeros((2, 2), np.float32)
    muon = ol.Muon([m], momentum=0, nesterov=False)
    for value in (1, 1e-8):
        muon.step(grads=[np.full((2, 2), value, np.float32)])
    assert muon.state[m]["momentum_buffer"] == pytest.approx(1e-8, rel=1e-6)
