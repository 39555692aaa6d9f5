"""What users of torch do with an optimizer beside stepping it, with optimlite.torch's: state, groups, hooks, copies."""

from __future__ import annotations

import copy
import doctest
import importlib
import pickle
import sys
import weakref
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.tensors import assert_near, loss_of, network, torch, train, values

ours: Any = importlib.import_module("optimlite.torch")
STRONG = {"line_search_fn": "strong_wolfe"}


def test_the_loss_comes_back_and_the_options_of_our_step_are_there() -> None:
    model = network()
    optimizer = ours.SGD(model.parameters(), lr=0.1)
    loss_of(model).backward()
    loss = optimizer.step(lambda: loss_of(model))
    assert isinstance(loss, torch.Tensor)
    before = values(model)
    optimizer.step(max_grad_norm=1e-3, zero_grad=True)
    assert optimizer.inner.last_grad_norm > 1e-3
    moved = sum(((a - b) ** 2).sum() for a, b in zip(values(model), before, strict=True)) ** 0.5
    assert moved == pytest.approx(1e-4, 1e-2)
    assert all(not p.grad.any() for p in model.parameters())
    with pytest.raises(TypeError, match=r"has no argument `max_norm`; did you mean `max_grad_norm`"):
        optimizer.step(max_norm=1)


def test_state_is_live_and_may_be_changed() -> None:
    model = network()
    optimizer = ours.AdamW(model.parameters())
    train(model, optimizer, 3)
    weight = next(model.parameters())
    state = optimizer.state[weight]
    train(model, optimizer, 1)
    assert state["step"] == 4                                    # the same memory
    state["exp_avg"].zero_()
    assert not optimizer.inner.state["0"]["exp_avg"].any()
    state["exp_avg"] = torch.full_like(weight, 7)                # another tensor
    loss_of(model).backward()
    optimizer.step()
    assert (optimizer.state[weight]["exp_avg"] > 6).all()
    optimizer.state = defaultdict(dict)
    train(model, optimizer, 1)
    assert optimizer.state[weight]["step"] == 1


def test_a_parameter_that_gets_other_memory_is_followed() -> None:
    one, other = network(), network()
    optimizers = ours.AdamW(one.parameters()), torch.optim.AdamW(other.parameters())
    for model, optimizer in zip((one, other), optimizers, strict=True):
        train(model, optimizer, 3)
        for p in model.parameters():
            p.data = p.data * 0.5
        train(model, optimizer, 3)
        model.load_state_dict({k: v * 2 for k, v in model.state_dict().items()})
        train(model, optimizer, 3)
    assert_near(values(one), values(other), 1e-10)


def test_gradients_that_get_other_memory_are_followed() -> None:
    one, other = ([torch.nn.Parameter(torch.ones(n, dtype=torch.float64)) for n in (3, 4, 5, 6, 20_000)] for _ in "ab")
    for tensors, optimizer in ((one, ours.SGD(one, lr=0.1)), (other, torch.optim.SGD(other, lr=0.1))):
        for t in tensors:
            t.grad = torch.ones_like(t)
        optimizer.step()
        for t in tensors:
            t.grad.data = torch.full_like(t, 3)
        optimizer.step()
        for t in tensors:
            t.grad.mul_(2)
        optimizer.step()
    assert_near([t.detach().numpy() for t in one], [t.detach().numpy() for t in other], 1e-15)


def test_points_that_are_pruned_and_grown_in_the_middle_of_a_run() -> None:
    """Gaussian splatting puts another tensor into the group, and cut state under it."""
    ends = []
    for library in (ours, torch.optim):
        points = torch.nn.Parameter(torch.arange(8.0).reshape(4, 2))
        optimizer = library.Adam([{"params": [points], "lr": 0.1, "name": "xyz"}])
        for _ in range(3):
            (points ** 2).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        stored, keep = optimizer.state[points], torch.tensor([True, False, True, True])
        for key in ("exp_avg", "exp_avg_sq"):
            stored[key] = stored[key][keep]
        del optimizer.state[points]
        points = optimizer.param_groups[0]["params"][0] = torch.nn.Parameter(points.detach()[keep].clone())
        optimizer.state[points] = stored
        (points ** 2).sum().backward()
        optimizer.step()
        assert optimizer.state[points]["step"] == 4
        ends.append([points.detach().numpy()])
    assert_near(*ends, 1e-6)


def test_groups_come_later_and_values_are_theirs() -> None:
    model = network()
    first, *others = model.parameters()
    optimizer = ours.SGD([{"params": first, "lr": torch.tensor(0.5)}], lr=0.1, momentum=0.9)
    optimizer.add_param_group({"params": iter(others), "lr": 0.0})
    before = values(model)
    train(model, optimizer, 1)
    after = values(model)
    assert not np.array_equal(before[0], after[0])
    assert all(map(np.array_equal, before[1:], after[1:]))
    optimizer.param_groups[0]["lr"].fill_(-1)
    with pytest.raises(ValueError, match=r"^`lr` must be >= 0, got -1"):
        train(model, optimizer, 1)


def test_names_of_parameters_are_kept() -> None:
    model = network()
    optimizer = ours.Adam(model.named_parameters())
    train(model, optimizer, 2)
    assert optimizer.state_dict()["param_groups"][0]["param_names"][0] == "0.weight"
    assert set(optimizer.inner.state["0.weight"]) == {"step", "exp_avg", "exp_avg_sq"}
    turned = ours.Adam(list(model.named_parameters())[::-1])
    turned.load_state_dict(optimizer.state_dict())
    weight = next(model.parameters())
    assert np.array_equal(turned.state[weight]["exp_avg"], optimizer.inner.state["0.weight"]["exp_avg"])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))],
                         ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("name", ["AdamW", "Prodigy", "LBFGS"])
def test_copies_go_on_by_themselves(name: str, copied: Any) -> None:
    model = network()
    optimizer = getattr(ours, name)(model.parameters(), **(STRONG | {"max_iter": 5} if name == "LBFGS" else {}))
    train(model, optimizer, 3)
    twin, twins_optimizer = copied((model, optimizer))
    for each in ((model, optimizer), (twin, twins_optimizer)):
        train(*each, 3)
    assert all(map(np.array_equal, values(model), values(twin)))


def test_hooks_are_torchs() -> None:
    model, said = network(), []
    optimizer = ours.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: said.append("before"))
    optimizer.register_step_post_hook(lambda *_: said.append("after"))
    optimizer.register_state_dict_pre_hook(lambda *_: said.append("save"))
    optimizer.register_state_dict_post_hook(lambda opt, sd: {**sd, "note": 1})
    optimizer.register_load_state_dict_pre_hook(lambda opt, sd: said.append(f"load {sd.pop('note')}"))
    optimizer.register_load_state_dict_post_hook(lambda *_: said.append("loaded"))
    train(model, optimizer, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    assert said == ["before", "after", "save", "load 1", "loaded"]


def test_hooks_of_all_optimizers_and_the_profiler_see_it() -> None:
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    weight, said = torch.nn.Parameter(torch.ones(3)), []
    optimizer = ours.SGD([weight], lr=0.1)
    weight.grad = torch.ones(3)
    handles = [register_optimizer_step_pre_hook(lambda opt, args, kwargs: said.append(("before", opt, len(kwargs)))),
               register_optimizer_step_post_hook(lambda opt, *_: said.append(("after", opt)))]
    optimizer.step(max_grad_norm=1.0)
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert said == [("before", optimizer, 1), ("after", optimizer)]
    with torch.profiler.profile() as profile:
        optimizer.step()
    assert "Optimizer.step#SGD.step" in [event.key for event in profile.key_averages()]


def test_a_graph_from_before_the_step_is_refused() -> None:
    """A backward pass through values that a step has changed would be silently wrong."""
    weight = torch.nn.Parameter(torch.ones(3))
    loss = (weight ** 3).sum()
    loss.backward(retain_graph=True)
    ours.SGD([weight], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradients_that_torch_dropped_are_not_kept() -> None:
    large = torch.nn.Parameter(torch.ones(100_000))
    optimizer = ours.SGD([large], lr=0.1)
    large.grad = torch.ones_like(large)
    gone = weakref.ref(large.grad)
    optimizer.step()
    large.grad = None
    assert gone() is None


@pytest.mark.filterwarnings("ignore:Using backward")
def test_gradients_with_a_graph_of_their_own() -> None:
    weight = [torch.nn.Parameter(torch.ones(3)) for _ in range(5)]
    sum((w ** 2).sum() for w in weight).backward(create_graph=True)
    with_graph = ours.SGD(weight, lr=0.5)
    with_graph.step()
    assert all(not w.any() for w in weight)
    for w in weight:
        w.grad = None


def test_a_closure_is_evaluated_as_often_as_the_method_wants() -> None:
    model, calls = network(), []
    optimizer = ours.LBFGS(model.parameters(), **STRONG, max_iter=20)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        calls.append(loss.item())
        return loss

    first = optimizer.step(closure)
    assert first.item() == calls[0]
    assert len(calls) == optimizer.inner.result.evaluations > 5
    assert loss_of(model).item() < calls[0]


def test_an_optimizer_of_ones_own_is_wrapped() -> None:
    class Descent(ol.Optimizer):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, {"lr": lr})

        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for p in group["params"]:
                    p.data -= group["lr"] * p.grad

    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(5)]
    optimizer = ours.wrap(Descent)(weights, lr=0.5)
    for weight in weights:
        weight.grad = torch.ones(2)
    optimizer.step()
    assert all(weight.tolist() == [0.5, 0.5] for weight in weights)
    assert ours.wrap(Descent) is type(optimizer)
    assert repr(optimizer).startswith("Descent (")


def test_the_example_runs() -> None:
    [example, *_] = doctest.DocTestFinder(recurse=False).find(ours.wrap, "wrap", globs={"ol": ol})
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert not said, "".join(said)


def calls_of(act: Callable[[], Any]) -> int:
    """How many functions are called by Python code."""
    seen: list[str] = []
    sys.setprofile(lambda frame, event, arg: seen.append(event))
    try:
        act()
    finally:
        sys.setprofile(None)
    return seen.count("call") + seen.count("c_call")


@pytest.mark.parametrize("looked", [False, True])
def test_a_step_calls_nothing_for_each_tensor(looked: bool) -> None:
    """Python's loop over a model's biases would take longer than their step."""
    counts = []
    for tensors in (10, 200):
        weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(tensors)]
        for weight in weights:
            weight.grad = torch.ones(3)
        optimizer = ours.Adam(weights)
        optimizer.step()
        if looked:
            assert len(optimizer.state) == tensors
        optimizer.step()                         # the first with all state there
        counts.append(calls_of(optimizer.step))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("change", ["replaced", "emptied", "dropped"])
def test_state_that_was_seen_may_be_changed_many_steps_later(change: str) -> None:
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(5)]
    optimizer = ours.SGD(weights, lr=0.1, momentum=0.9)
    state = optimizer.state
    for count in range(6):
        for weight in weights:
            weight.grad = torch.ones(3)
        if count == 5 and change == "replaced":
            state[weights[1]]["momentum_buffer"] = torch.zeros(3)
        elif count == 5 and change == "emptied":
            state[weights[1]].clear()
        elif count == 5:
            del state[weights[1]]
        before = weights[1].detach().clone()
        optimizer.step()
        if count == 1:
            assert optimizer.state is state
    assert_near([(before - weights[1].detach()).numpy()], [np.full(3, 0.1)], 1e-6)
    assert_near([optimizer.state[weights[0]]["momentum_buffer"].numpy()], [np.full(3, 10 * (1 - 0.9 ** 6))], 1e-6)
