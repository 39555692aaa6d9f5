"""optimlite.torch: torch's optimizers by our kernels, every class, in the hands of torch's schedulers and files."""

from __future__ import annotations

import copy
import doctest
import importlib
import io
import pickle
import statistics
import time
import weakref
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.trajectories import BOUNDS, CASES

torch = pytest.importorskip("torch")
ours: Any = importlib.import_module("optimlite.torch")
NAMES = [name for name in dir(ours) if name not in ours.__all__]
CLOSURES = ("LBFGS", "ConjugateGradient")
OPTIONS = {"LBFGS": {"line_search_fn": "strong_wolfe", "max_iter": 5}, "ConjugateGradient": {"max_iter": 5}}
# torch's Muon multiplies in bfloat16; sparse gradients have tests of their own
DENSE = [case for case in CASES.values() if case.row == case.optimizer and case.optimizer not in ("Muon", "SparseAdam")]


def network(dtype: Any = None) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.LayerNorm(8), torch.nn.Linear(8, 3)
                               ).to(dtype or torch.float64)


X, Y = np.random.default_rng(0).standard_normal((2, 16, 5))


def loss_of(model: Any) -> Any:
    kind = next(model.parameters()).dtype
    return ((model(torch.tensor(X, dtype=kind)) - torch.tensor(Y[:, :3], dtype=kind)) ** 2).mean()


def train(model: Any, optimizer: Any, steps: int, scheduler: Any = None) -> None:
    for _ in range(steps):
        def closure() -> Any:
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            return loss

        optimizer.step(closure)
        if scheduler:
            scheduler.step()


def values(model: Any) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in model.parameters()]


def assert_near(one: Any, other: Any, bound: float) -> None:
    for a, b in zip(one, other, strict=True):
        assert np.abs(a - b).max(initial=0) <= bound * max(1, np.abs(b).max(initial=0))


# Against torch -------------------------------------------------------------------------------------------------------

def shape_and_layout(rng: Any) -> Any:
    shape = tuple(int(n) for n in rng.integers(1, 6, rng.integers(0, 5)))
    return shape, int(rng.integers(0, 3))


def laid_out(values: np.ndarray, layout: int) -> Any:
    """The same values contiguous, transposed in memory, or with gaps."""
    tensor = torch.from_numpy(np.array(values))
    backwards = tuple(range(tensor.ndim))[::-1]
    if layout == 1:
        return tensor.permute(backwards).contiguous().permute(backwards)
    if layout == 2 and tensor.ndim:
        wide = torch.zeros((*tensor.shape[:-1], 2 * tensor.shape[-1]), dtype=tensor.dtype)
        wide[..., ::2] = tensor
        return wide[..., ::2]
    return tensor


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


# What torch's users do -----------------------------------------------------------------------------------------------

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
    optimizer = getattr(ours, name)(model.parameters(), **OPTIONS.get(name, {}))
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


def test_sparse_gradients_are_refused_where_they_move_every_row() -> None:
    table = torch.nn.Embedding(10, 4, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError, match="Adam takes no sparse gradients"):
        ours.Adam(table.parameters()).step()


def test_a_closure_is_evaluated_as_often_as_the_method_wants() -> None:
    model, calls = network(), []
    optimizer = ours.LBFGS(model.parameters(), line_search_fn="strong_wolfe", max_iter=20)

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


# What is refused -----------------------------------------------------------------------------------------------------

BFLOAT = torch.ones(3, dtype=torch.bfloat16)


@pytest.mark.parametrize(("given", "message"), [
    (torch.ones(3), r"`params` must be an iterable of tensors or groups, got Tensor; give \[tensor\]"),
    (torch.nn.Linear(2, 2), r"got Linear; give model.parameters\(\)"),
    ([{"params": {torch.ones(2)}}], "must come in a fixed order, got a set; use a list"),
    ([{"param": []}], "parameter group 0 must be a dict with a 'params' key"),
    ([np.ones(3)], "parameter '0' of group '0' must be a tensor, got ndarray; optimlite's own classes take arrays"),
    ([BFLOAT], r"parameter '0' of group '0' of shape \(3,\) must be float32 or float64, got bfloat16; use model.float"),
    ([("w", BFLOAT)], r"parameter 'w' of shape \(3,\) must be float32 or float64, got bfloat16"),
    ([torch.ones(3, dtype=torch.complex64)], "got complex64; use torch.view_as_real"),
    ([torch.ones(3, device="meta")], "must be on the CPU, got one on meta; use model.cpu"),
    ([torch.ones(3).to_sparse()], "must be dense, got sparse_coo; only gradients may be sparse"),
    ([torch.ones(3, requires_grad=True) * 2], "can't optimize a non-leaf Tensor"),
    ([], "an optimizer needs at least one parameter"),
])
def test_what_is_no_parameter_is_refused(given: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ours.SGD(given, lr=0.1)


def test_a_group_that_is_refused_is_not_there() -> None:
    optimizer = ours.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    for bad in ({"params": [BFLOAT]}, {"params": [torch.ones(2)], "lr": -1}):
        with pytest.raises((TypeError, ValueError)):
            optimizer.add_param_group(bad)
        assert len(optimizer.param_groups) == len(optimizer.inner.param_groups) == 1


def test_names_that_are_not_there() -> None:
    with pytest.raises(AttributeError, match=r"has no optimizer `Adamw`; did you mean `AdamW`\?"):
        ours.Adamw  # noqa: B018
    with pytest.raises(TypeError, match="has no argument `fused`: optimlite's kernels are always fused; leave it out"):
        ours.AdamW([torch.ones(2)], fused=True)
    with pytest.raises(TypeError, match="`kind` must be a class of optimlite's optimizers"):
        ours.wrap(torch.optim.Adam)


def test_a_state_dict_that_does_not_fit_changes_nothing() -> None:
    model = network()
    optimizer = ours.AdamW(model.parameters())
    train(model, optimizer, 2)
    before = copy.deepcopy(optimizer.state_dict())
    other = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    with pytest.raises(ValueError, match="the state dict has groups of"):
        optimizer.load_state_dict(other.state_dict())
    after = optimizer.state_dict()
    assert str(before) == str(after)


@pytest.mark.plain
def test_many_small_tensors_step_faster_than_torchs_fused() -> None:
    """20 times on a quiet machine; here it is only said that nothing is wrong by factors."""
    both = [[torch.nn.Parameter(torch.randn(32)) for _ in range(500)] for _ in range(2)]
    optimizers = ours.Adam(both[0]), torch.optim.Adam(both[1], fused=True)
    times: list[list[float]] = [[], []]
    for tensor in (*both[0], *both[1]):
        tensor.grad = torch.randn(32)
    for _ in range(40):
        for optimizer, kept in zip(optimizers, times, strict=True):
            start = time.perf_counter()
            optimizer.step()
            kept.append(time.perf_counter() - start)
    assert 2 * statistics.median(times[0]) < statistics.median(times[1])


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
