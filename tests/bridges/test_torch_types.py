"""optimlite.torch on tensors of 16 bits and complex ones: the bits of the arrays' own step, state, files, training."""

from __future__ import annotations

import copy
import importlib
import io
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.engine.formats import BFLOAT16
from optimlite.engine.rule_optimizer import RuleOptimizer
from support.tensors import loss_of, network, torch, train

ours: Any = importlib.import_module("optimlite.torch")
tensors: Any = importlib.import_module("optimlite.torch.tensors")
NAMES = [name for name in dir(ours) if name not in (*ours.__all__, "SparseAdam")
         and issubclass(getattr(ol, name), RuleOptimizer) and tensors.dtypes_of(getattr(ol, name))[2:]]
HALVES = (torch.bfloat16, torch.float16)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """torch's multiplication in bfloat16 wakes threads for matrices that are small, and waits for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def array_of(tensor: Any) -> np.ndarray:
    """A copy of it: of bfloat16, the bits."""
    array = tensors.memory_of(tensor.detach())
    return np.array(array.view(np.uint16) if tensor.dtype is torch.bfloat16 else array)


def drawn(dtype: Any) -> list[Any]:
    """Small ones, which are gathered, a large one, one that isn't contiguous, and one without axes."""
    torch.manual_seed(0)
    shapes = [(4, 3)] * 5 + [(150, 120), ()]
    return [torch.nn.Parameter(torch.randn(shape).to(dtype)) for shape in shapes] + [
        torch.nn.Parameter(torch.randn(6, 5).to(dtype).T)]


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_steps_as_its_own_class(name: str) -> None:
    kind = getattr(ol, name)
    for dtype in tensors.dtypes_of(kind)[2:]:
        given = drawn(dtype)
        declared = "bfloat16" if dtype is torch.bfloat16 else None
        plain = kind([ol.Parameter(array_of(tensor), dtype=declared) for tensor in given])
        wrapped = getattr(ours, name)(given)
        for _ in range(2):
            for tensor in given:
                tensor.grad = torch.randn(tensor.shape).to(dtype)
            plain.step(grads=[array_of(tensor.grad) for tensor in given], max_grad_norm=1.0)
            wrapped.step(max_grad_norm=1.0)
        for tensor, parameter in zip(given, plain._parameters(), strict=True):
            assert np.array_equal(array_of(tensor), parameter.data)
            for key, array in plain.state[parameter].items():
                assert np.array_equal(array_of(wrapped.state[tensor][key]), array)


@pytest.mark.parametrize("master", ["float32", "kahan", "none"])
@pytest.mark.parametrize("dtype", HALVES)
def test_state_goes_through_files_and_copies(dtype: Any, master: str) -> None:
    model = network(dtype)
    opt = ours.AdamW(model.parameters(), lr=0.01, master=master)
    train(model, opt, 3)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "opt": opt.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file)
    again = network(dtype)
    again.load_state_dict(saved["model"])
    resumed = ours.AdamW(again.parameters(), lr=0.01, master=master)
    resumed.load_state_dict(saved["opt"])
    copied, copied_opt = copy.deepcopy((model, opt))
    for one, optimizer in ((model, opt), (again, resumed), (copied, copied_opt)):
        train(one, optimizer, 3)
    for a, b, c in zip(model.parameters(), again.parameters(), copied.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    key, kept = {"float32": ("low_bits", torch.uint16) if dtype is torch.bfloat16 else ("master", torch.float32),
                 "kahan": ("compensation", dtype), "none": ("step", torch.int64)}[master]
    assert opt.state[next(model.parameters())][key].dtype == kept


@pytest.mark.parametrize("dtype", [*HALVES, torch.complex64])
def test_torchs_class_goes_on_and_back(dtype: Any) -> None:
    """torch's keeps moments in the parameter's type, and what it doesn't know as numbers of that, which say nothing."""
    weight = torch.nn.Parameter(torch.randn(40, 30).to(dtype))
    optimizer: Any = ours.AdamW([weight], lr=0.01)
    for library in (torch.optim, ours, ours):
        weight.grad = torch.randn(40, 30).to(dtype)
        optimizer.step()
        saved = optimizer.state_dict()
        optimizer = library.AdamW([weight], lr=0.01)
        optimizer.load_state_dict(saved)
    before, optimizer.param_groups[0]["lr"] = weight.detach().clone(), 0.0
    optimizer.step()
    assert torch.equal(weight, before)
    assert optimizer.state[weight]["exp_avg"].dtype == (dtype if dtype.is_complex else torch.float32)


def test_gradients_that_are_views_of_their_conjugate() -> None:
    """Which torch leaves behind a conjugation: a copy is read, and read again after a change in place."""
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    optimizer = ours.SGD([weight], lr=1.0)
    weight.grad = torch.full((3,), 1 + 2j).conj()
    for wanted in (0 + 2j, -2 + 6j):
        optimizer.step()
        assert weight.tolist() == [wanted] * 3
        weight.grad.mul_(2)


def test_complex_parameters_are_torchs() -> None:
    ends = []
    for library in (ours, torch.optim):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(5, 4, dtype=torch.complex128))
        target = torch.randn(5, 4, dtype=torch.complex128)
        optimizer = library.AdamW([weight], lr=0.1)
        for _ in range(30):
            optimizer.zero_grad()
            ((1 + 2j) * weight - target).abs().square().sum().backward()
            optimizer.step()
        ends.append(weight.detach().numpy())
    np.testing.assert_allclose(*ends, rtol=1e-9)


def test_a_network_in_bfloat16_learns_as_one_in_float32() -> None:
    """torch's class, whose parameters are all there is, stays behind: small steps are lost to their rounding."""
    losses = {}
    for name, kind, dtype, options in (("exact", ours, torch.float32, {}), ("master", ours, torch.bfloat16, {}),
                                       ("kahan", ours, torch.bfloat16, {"master": "kahan"}),
                                       ("none", ours, torch.bfloat16, {"master": "none"}),
                                       ("torch", torch.optim, torch.bfloat16, {})):
        model = network(torch.float32).to(dtype)
        train(model, kind.AdamW(model.parameters(), lr=4e-4, **options), 120)
        losses[name] = loss_of(model.float()).item()
    assert losses["master"] == pytest.approx(losses["exact"], rel=0.03)
    assert losses["kahan"] == pytest.approx(losses["exact"], rel=0.03)
    assert losses["none"] == pytest.approx(losses["exact"], rel=0.1)
    assert losses["torch"] > 1.05 * losses["exact"], losses


def test_memory_of_bfloat16_is_shared() -> None:
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    assert tensors.memory_of(weight.detach()).dtype == BFLOAT16
    optimizer = ours.SGD([weight], lr=2.0**-10)
    weight.grad = torch.ones_like(weight)
    for _ in range(4):
        optimizer.step()
    assert weight.tolist() == [0.99609375] * 3
