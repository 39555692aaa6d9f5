"""What goes on when a parameter is removed or replaced: gradients, names, schedules, files, closures and averages."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import assert_same, same_bits
from support.cases import Case
from support.helpers import PlainMomentum, content, snapshot
from support.interrupts import everywhere
from support.replacing import array, built, step


def test_gradients_come_in_the_nesting_as_it_is() -> None:
    layers = [{"W": np.ones((2, 2)), "b": np.ones(2)}, (np.ones(3), np.ones(1))]
    opt = ol.SGD(layers, lr=1.0)
    opt.replace("0.b", new := np.ones(5))
    opt.step(grads=[{"W": np.ones((2, 2)), "b": np.ones(5)}, (np.ones(3), np.ones(1))])
    assert (new == 0).all()
    opt.remove("1.0")
    opt.step(grads=[{"W": None, "b": np.ones(5)}, (np.ones(1),)])
    assert (new == -1).all()
    assert layers[1][1] == -1
    opt.remove(layers[1][1])
    opt.step(grads=[{"W": None, "b": np.ones(5)}])           # the branch is gone
    opt.remove("0.W")
    opt.remove("0.b")
    with pytest.warns(UserWarning, match="changed nothing"):
        opt.step(grads=[])
    assert opt.param_groups[0]["params"] == ()
    assert (new == -2).all()
    with pytest.raises(KeyError, match=r"the optimizer has no parameter '0\.b'"):
        opt.remove("0.b")
    with pytest.raises(KeyError, match="the optimizer has no such parameter"):
        opt.remove(new)


def test_groups_of_several_nestings() -> None:
    a, b, c = np.ones(2), np.ones(3), np.ones(4)
    opt = ol.SGD([{"params": [a, b], "lr": 1.0}, {"params": c, "lr": 2.0}])
    group = opt.param_groups[1]
    opt.replace(c, np.ones(5))
    opt.remove(a)
    assert opt.param_groups[1] is group
    opt.step(grads=[[np.ones(3)], np.ones(5)])
    assert (b == 0).all()
    assert (group["params"][0].data == -1).all()
    opt.remove(group["params"][0])
    opt.step(grads=[[np.ones(3)], []])
    opt.add_param_group({"params": {"d": a}, "lr": 0.5})
    opt.step(grads=[[None], [], {"d": np.ones(2)}])
    assert (a == 0.5).all()


def test_schedules_names_and_files_go_on(tmp_path: Path) -> None:
    opt = ol.Adam([{"params": {"x": array(0, 4, 3)}, "lr": 0.1}, {"params": {"o": array(1, 4)}, "lr": 0.2}])
    sched = ol.lr_scheduler.ExponentialLR(opt, 0.5)
    step(opt, 0)
    sched.step()
    x = array(2, 2, 3)
    opt.replace("x", x, rows=[0, 3])
    opt.remove("o")
    step(opt, 1)
    sched.step()
    assert [group["lr"] for group in opt.param_groups] == [0.025, 0.05]
    assert [group["param_names"] for group in opt.state_dict()["param_groups"]] == [["x"], []]
    ol.save(tmp_path / "a.safetensors", model={"x": x}, optimizer=opt, scheduler=sched)
    y = np.zeros_like(x)
    other = ol.Adam([{"params": {"x": y}}, {"params": []}])
    again = ol.lr_scheduler.ExponentialLR(other, 0.5)
    ol.restore(tmp_path / "a.safetensors", model={"x": y}, optimizer=other, scheduler=again)
    step(opt, 2)
    step(other, 2)
    assert_same(opt, other)


def gone(opt: ol.Optimizer, act: Callable[[], Any]) -> None:
    """Runs `act` and asserts that the memory of x and of its state is free, without the cyclic collector."""
    held = [weakref.ref(entry) for entry in (opt.state["x"].get("exp_avg"), opt._parameters()[0].data)]
    gc.disable()
    try:
        act()
        assert [reference() for reference in held] == [None, None]
    finally:
        gc.enable()


def test_nothing_keeps_the_old_arrays() -> None:
    for rows in ([0, 1], None):
        opt = built(Case(ol.Adam, {}))
        opt.step(max_grad_norm=1.0)
        opt.zero_grad()
        gone(opt, lambda opt=opt, rows=rows: opt.replace("x", array(1, 2, 3), rows))
    opt = built(Case(ol.Adam, {}))
    opt.step(zero_grad=True)
    gone(opt, lambda: opt.remove("x"))


def test_a_name_that_left_its_group_can_be_taken_again() -> None:
    """Densification by hand: one "x", and neither the old array nor its moments stay alive."""
    opt = ol.Adam({"x": np.ones((6, 3)), "o": np.ones(6)})
    opt.step(grads={"x": np.ones((6, 3)), "o": np.ones(6)}, zero_grad=True)

    def by_hand() -> None:
        group = opt.param_groups[0]
        group["params"] = group["params"][1:]
        opt.add_param_group({"params": {"x": np.ones((4, 3))}})

    gone(opt, by_hand)
    opt.step(grads={"x": np.ones((4, 3)), "o": np.ones(6)})
    assert opt.state["x"]["step"] == 1
    assert opt.state["o"]["step"] == 2
    assert len(opt.state_dict()["state"]) == 2
    opt.step(grads=[{"o": np.ones(6)}, {"x": np.ones((4, 3))}])          # the nestings that there are now
    assert opt.state["x"]["step"] == 2


@pytest.mark.parametrize("build", [lambda p: ol.LBFGS(p, line_search_fn="strong_wolfe"), ol.ConjugateGradient],
                         ids=["L-BFGS", "CG"])
def test_closure_methods_begin_anew(build: Callable[[Any], Any]) -> None:
    a, b = np.full(4, 2.0), np.full(3, 1.0)
    opt = build({"a": a, "b": b})

    def closure() -> tuple[float, list[np.ndarray]]:
        every = [p.data for p in opt._parameters()]
        return float(sum(((p - 0.5)**4).sum() for p in every)), [4 * (p - 0.5)**3 for p in every]

    opt.step(closure)
    assert opt.state["a"]
    new = np.full(6, 3.0)
    opt.replace("a", new, rows=[0, 1])
    assert not opt.state["a"]
    assert not opt.state["b"]
    for _ in range(3):
        opt.step(closure)
    np.testing.assert_allclose(new, 0.5, atol=0.05)
    opt.remove("b")
    opt.step(closure)
    assert opt.result.evaluations


def test_bounds_go_with_their_parameter() -> None:
    a, b = np.full(3, 2.0), np.full(3, 2.0)
    opt = ol.LBFGS({"a": a, "b": b}, line_search_fn="hager_zhang", bounds={"a": (np.array([1.0, 1.5, -9.0]), None)})
    def f() -> Any:
        every = [p.data for p in opt._parameters()]
        return float(sum((p**2).sum() for p in every)), [2 * p for p in every]

    with pytest.raises(ValueError, match=r"'a' has bounds for its shape \(3,\), and was to become \(4,\); set"):
        opt.replace("a", np.ones(4))
    opt.replace("a", new := np.full(6, 5.0)[::2])
    opt.replace("b", free := np.full(5, 2.0))                # which has none
    opt.step(f)
    assert new.tolist() == pytest.approx([1.0, 1.5, 0.0], abs=1e-6)
    np.testing.assert_allclose(free, 0, atol=1e-6)
    opt.remove("a")
    opt.step(f)


def test_a_users_own_optimizer() -> None:
    opt = PlainMomentum({"x": np.ones((3, 2))})
    opt.step(grads={"x": np.ones((3, 2))})
    opt.state["x"]["seen"] = np.array([[1, 2], [3, 4], [5, 6]])
    opt.replace("x", np.ones((4, 2)), rows=[2, 0])
    assert opt.state["x"]["seen"].tolist() == [[5, 6], [1, 2], [0, 0], [0, 0]]
    assert opt.state["x"]["average"].tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]
    assert opt.state["x"]["step"] == 1
    opt.state["x"]["Q"] = np.eye(3)
    before = snapshot(opt)
    with pytest.raises(ValueError, match=r"state `Q` of 'x' has the shape \(3, 3\), which `rows` can't tell .*del opt"):
        opt.replace("x", np.ones((2, 2)), rows=[0, 1])
    assert snapshot(opt) == before
    opt.replace("x", np.ones((4, 2)))
    assert opt.state["x"]["Q"].tolist() == np.eye(3).tolist()


def test_an_average_follows() -> None:
    x, o = array(0, 4, 2), array(1, 4)
    average = ol.Average({"x": x, "o": o}, decay=0.5)
    average.update()
    x += 1
    average.update()
    kept = average.averages[0].copy()
    new = array(2, 3, 2)
    assert average.replace("x", new, rows=[3, -1, 0]).data is new
    assert same_bits(average.averages[0], np.stack([kept[3], new[1], kept[0]]))
    before = average.averages[0].copy()
    average.update()
    np.testing.assert_allclose(average.averages[0], (before + new) / 2, rtol=1e-6)
    before = average.averages[0].copy()
    average.replace(new, other := array(3, 3, 2))            # the same shape keeps its average
    assert same_bits(average.averages[0], before)
    with average.swapped():
        assert same_bits(other, average.averages[0])
        for act in (lambda: average.replace("x", new), lambda: average.remove("o")):
            with pytest.raises(RuntimeError, match="the averages are swapped in; leave"):
                act()
    average.replace("x", another := array(4, 7))             # another one begins with its values
    assert same_bits(average.averages[0], another)
    average.remove("o")
    average.update()
    assert len(average.averages) == 1
    assert average.n_averaged == 4
    copied = ol.Average({"x": array(5, 7)}, decay=0.1)
    copied.load_state_dict(average.state_dict())
    assert same_bits(copied.averages[0], average.averages[0])


@pytest.mark.parametrize(("act", "error", "message"), [
    (lambda a: a.replace("y", np.ones(2)), KeyError, "the average has no parameter 'y'"),
    (lambda a: a.replace(np.ones(3), np.ones(2)), KeyError, r"the average has no such parameter \(got ndarray\)"),
    (lambda a: a.replace("x", np.ones(2, np.float32)), TypeError, "the new 'x' must be float64"),
    (lambda a: a.replace("x", np.ones(2), rows=[5]), ValueError, "0 to 2, or -1"),
    (lambda a: a.replace("x", a._parameters[1].data), ValueError, "'x' and parameter 'o' overlap .*; list it once"),
    (lambda a: a.remove("z"), KeyError, "no parameter 'z'"),
])
def test_what_an_average_refuses(act: Callable[[ol.Average], Any], error: type[Exception], message: str) -> None:
    average = ol.Average({"x": np.ones(3), "o": np.zeros(2)})
    average.update()
    before = [content(a) for a in average.averages], average.n_averaged
    with pytest.raises(error, match=message):
        act(average)
    assert ([content(a) for a in average.averages], average.n_averaged) == before
    average.remove("x")
    with pytest.raises(ValueError, match="an average needs at least one parameter"):
        average.remove("o")


def test_an_interrupt_leaves_an_average_that_goes_on() -> None:
    def build() -> ol.Average:
        average = ol.Average({"x": np.full(4, 2.0), "o": np.ones(2)})
        average.update()
        return average

    def act(average: ol.Average) -> None:
        average.replace("x", np.full(3, 4.0), rows=[0, 1])

    def check(average: ol.Average) -> None:
        average.update()
        assert [a.tolist() for a in average.averages] in ([[2.0] * 4, [1.0] * 2], [[3.0, 3.0, 4.0], [1.0] * 2])

    assert everywhere(build, act, check) > 10
