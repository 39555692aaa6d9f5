"""optimlite.torch beside torch: the same steps, state and files, with every class."""

from __future__ import annotations

import copy
import importlib
import io
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.tensors import assert_near, laid_out, network, torch, train, values
from support.trajectories import BOUNDS, CASES

ours: Any = importlib.import_module("optimlite.torch")
NAMES = [name for name in dir(ours) if name not in ours.__all__]
CLOSURES = ("LBFGS", "ConjugateGradient")
OPTIONS = {"LBFGS": {"line_search_fn": "strong_wolfe", "max_iter": 5}, "ConjugateGradient": {"max_iter": 5}}
# torch's Muon multiplies in bfloat16; sparse gradients have tests of their own
DENSE = [case for case in CASES.values() if case.row == case.optimizer and case.optimizer not in ("Muon", "SparseAdam")]


def shape_and_layout(rng: Any) -> Any:
    shape = tuple(int(n) for n in rng.integers(1, 6, rng.integers(0, 5)))
    return shape, int(rng.integers(0, 3))


@pytest.fixture
def doubles() -> Any:
    """torch keeps some scalars in its default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("seed", range(200))
def test_random_configurations_are_torchs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = DENSE[rng.integers(len(DENSE))]
    dtype = ("float32", "float64")[seed % 2]
    shapes = [shape_and_layout(rng) for _ in range(rng.integers(2, 9))]
    shapes += [((int(n),), 0) for n in rng.integers(1, 9, 5)]                # biases, which are gathered
    starts = [np.asarray(rng.standard_normal(shape), dtype) for shape, _ in shapes]
    cut = int(rng.integers(1, len(shapes)))
    sides = []
    for library in (ours, torch.optim):
        tensors = [torch.nn.Parameter(laid_out(start, layout))
                   for start, (_, layout) in zip(starts, shapes, strict=True)]
        groups = [{"params": tensors[:cut]}, {"params": tensors[cut:], **case.second}]
        sides.append((tensors, getattr(library, case.optimizer)(groups, **case.options)))
    for _ in range(6):
        grads = [np.asarray(rng.standard_normal(shape), dtype) if rng.random() < 0.8 else None for shape, _ in shapes]
        layouts = rng.integers(0, 3, len(shapes))
        for tensors, optimizer in sides:
            for tensor, grad, layout in zip(tensors, grads, layouts, strict=True):
                tensor.grad = None if grad is None else laid_out(grad, layout)
            optimizer.step()
    (mine, _), (theirs, _) = sides
    assert_near([t.detach().numpy() for t in mine], [t.detach().numpy() for t in theirs], BOUNDS[dtype])


@pytest.mark.parametrize("schedule", [
    lambda opt: torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.05, total_steps=60),
    lambda opt: torch.optim.lr_scheduler.CyclicLR(opt, 0.001, 0.05, step_size_up=5),
    lambda opt: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, 7)], ids=["one", "cyclic", "cosine"])
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_torchs_schedulers_drive_it(name: str, schedule: Any) -> None:
    options = {"lr": 0.01, **({"momentum": 0.9} if name == "SGD" else {})}
    ends = []
    for library in (ours, torch.optim):
        model = network()
        optimizer = getattr(library, name)(model.parameters(), **options)
        train(model, optimizer, 50, schedule(optimizer))
        ends.append([*values(model), np.array(optimizer.param_groups[0]["lr"])])
    assert_near(*ends, 1e-10)


@pytest.mark.parametrize("name", dict.fromkeys(case.optimizer for case in DENSE))
def test_state_travels_to_torchs_class_and_back(name: str) -> None:
    reference, model = network(), network()
    train(reference, getattr(torch.optim, name)(reference.parameters()), 30)
    classes = [getattr(library, name) for library in (ours, torch.optim, ours)]
    optimizer = classes[0](model.parameters())
    train(model, optimizer, 10)
    for kind in classes[1:]:
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        optimizer = kind(model.parameters(), lr=0.5)
        optimizer.load_state_dict(torch.load(file))
        train(model, optimizer, 10)
    assert_near(values(model), values(reference), 1e-8)          # torch keeps some scalars in float32


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_steps_as_its_own_class(name: str) -> None:
    """The same bits as on arrays, options by default; and a state dict goes through a file."""
    kind, options = getattr(ol, name), OPTIONS.get(name, {})
    start = [np.random.default_rng(i).standard_normal((4, 3)) for i in range(6)]
    arrays, tensors = [a.copy() for a in start], [torch.nn.Parameter(torch.tensor(a)) for a in start]
    plain, wrapped = kind(arrays, **options), getattr(ours, name)(tensors, **options)

    def bowl() -> Any:
        return float(sum((a * a).sum() for a in arrays)), [2 * a for a in arrays]

    def closure() -> Any:
        wrapped.zero_grad()
        loss = sum((t * t).sum() for t in tensors)
        loss.backward()
        return loss

    for step in range(4):
        if name == "SparseAdam":
            rows = np.array([0, 2])
            plain.step(grads=[ol.SparseGrad(rows, 2 * a[rows]) for a in arrays])
            for t, a in zip(tensors, start, strict=True):
                t.grad = torch.sparse_coo_tensor(torch.tensor(rows)[None], 2 * t.detach()[rows], a.shape,
                                                 check_invariants=True)
            wrapped.step()
        else:
            plain.step(bowl)
            wrapped.step(closure)
        if step == 1:
            file = io.BytesIO()
            torch.save(wrapped.state_dict(), file)
            file.seek(0)
            wrapped = getattr(ours, name)(tensors, **options)
            wrapped.load_state_dict(torch.load(file))
            again = kind(arrays, **options)
            again.load_state_dict(plain.state_dict())
            plain = again
    if name in CLOSURES:                                         # torch sums in another order
        assert_near([t.detach().numpy() for t in tensors], arrays, 1e-6)
    else:
        assert all(np.array_equal(t.detach().numpy(), a) for t, a in zip(tensors, arrays, strict=True))


@pytest.mark.parametrize("form", ["bfloat16", "int8"])
def test_state_in_fewer_bytes_travels(form: str) -> None:
    """Through a file the bits stay; torch's class takes bfloat16's values, and int8's are refused by `to_torch`."""
    weights = [torch.nn.Parameter(torch.randn(80, 60)) for _ in range(3)]
    optimizer = ours.AdamW(weights, state_dtype=form)
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other = ours.AdamW(weights, state_dtype=form)
    other.load_state_dict(torch.load(file))
    for name in ("0", "1", "2"):
        for key, array in optimizer.inner.state[name].items():
            assert np.array_equal(array, other.inner.state[name][key])
    exact = ours.AdamW(weights)
    exact.load_state_dict(optimizer.state_dict())
    moment = optimizer.state[weights[0]]["exp_avg"]
    if form == "bfloat16":
        assert moment.dtype == torch.bfloat16
        for library in (torch.optim, ours):
            there = library.AdamW(weights)
            there.load_state_dict(optimizer.state_dict())
            assert torch.equal(there.state[weights[0]]["exp_avg"], moment.float())
        assert torch.equal(ol.to_torch(optimizer.inner.state_dict())["state"][0]["exp_avg"], moment)
    else:
        with pytest.raises(ValueError, match=r"state\[0\]\['exp_avg'\] is in int8, which torch would take for number"):
            ol.to_torch(optimizer.inner.state_dict())
        ol.to_torch(exact.inner.state_dict())


def test_channels_last() -> None:
    model = torch.nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    twin = copy.deepcopy(model)
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    for each, library in ((model, ours), (twin, torch.optim)):
        optimizer = library.AdamW(each.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            each(x).square().mean().backward()
            optimizer.step()
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    assert_near(values(model), values(twin), 1e-5)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")        # of torch's own Adagrad
@pytest.mark.parametrize("name", ["SGD", "Adagrad", "SparseAdam"])
def test_sparse_gradients_of_an_embedding(name: str) -> None:
    ends = []
    for library in (ours, torch.optim):
        torch.manual_seed(0)
        table = torch.nn.Embedding(10, 4, sparse=True)
        optimizer = getattr(library, name)(table.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (table(torch.tensor([1, 3, 3])) ** 2).sum().backward()
            optimizer.step()
        ends.append(values(table))
    assert_near(*ends, 1e-6)
