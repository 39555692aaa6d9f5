"""What optimlite.torch refuses, and that nothing is changed then."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.tensors import network, torch, train

ours: Any = importlib.import_module("optimlite.torch")


@pytest.mark.parametrize(("name", "dtype", "message"), [
    ("Muon", torch.bfloat16, "must be float32 or float64 for Muon, got bfloat16; use model.float"),
    ("LBFGS", torch.float16, "must be float32, float64, complex64 or complex128 for LBFGS, got float16"),
    ("Adafactor", torch.complex64, "must be float32 or float64 for Adafactor, got complex64; use torch.view_as_real"),
])
def test_types_that_some_optimizers_take(name: str, dtype: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        getattr(ours, name)([torch.ones((3, 3), dtype=dtype)])

@pytest.mark.parametrize(("given", "message"), [
    (torch.ones(3), r"`params` must be an iterable of tensors or groups, got Tensor; give \[tensor\]"),
    (torch.nn.Linear(2, 2), r"got Linear; give model.parameters\(\)"),
    ([{"params": {torch.ones(2)}}], "must come in a fixed order, got a set; use a list"),
    ([{"param": []}], "parameter group 0 must be a dict with a 'params' key"),
    ([np.ones(3)], "parameter '0' of group '0' must be a tensor, got ndarray; optimlite's own classes take arrays"),
    ([torch.ones(3, dtype=torch.int64)], r"parameter '0' of group '0' of shape \(3,\) must be float32, float64, "
                                         r"bfloat16, float16, complex64 or complex128 for SGD, got int64; use model.f"),
    ([("w", torch.ones(3, dtype=torch.bool))], r"parameter 'w' of shape \(3,\) must be .*, got bool"),
    ([torch.ones(3, dtype=torch.complex64).conj()], "must hold its values themselves, .*; use tensor.resolve_conj"),
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
    for bad in ({"params": [torch.ones(2, dtype=torch.int32)]}, {"params": [torch.ones(2)], "lr": -1}):
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


def test_the_cure_for_a_state_dict_that_does_not_fit_loads_what_fits() -> None:
    model = network()
    other = torch.optim.Adam(model.parameters())
    train(model, other, 2)
    optimizer = ours.SGD(model.parameters(), lr=0.5, momentum=0.9)
    with pytest.raises(ValueError, match="strict=False loads what fits"):
        optimizer.load_state_dict(other.state_dict())
    mismatch = optimizer.load_state_dict(other.state_dict(), strict=False)
    assert "hyper-parameter `momentum` of group 0" in mismatch.missing
    assert optimizer.param_groups[0]["lr"] == 1e-3               # which fits
    assert optimizer.param_groups[0]["momentum"] == 0.9
    train(model, optimizer, 1)


def test_sparse_gradients_of_16_bits() -> None:
    table = torch.nn.Embedding(10, 4, sparse=True, dtype=torch.bfloat16)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError, match="must be dense where it has 16 bits, got sparse bfloat16; use"):
        ours.SGD(table.parameters(), lr=0.1).step()


def test_sparse_gradients_are_refused_where_they_move_every_row() -> None:
    table = torch.nn.Embedding(10, 4, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError, match="Adam takes no sparse gradients"):
        ours.Adam(table.parameters()).step()


def test_a_wrong_flag_is_refused_before_the_step() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = ours.Adam([weight])
    weight.grad = torch.ones(3)
    with pytest.raises(TypeError, match="`zero_grad` must be True or False"):
        optimizer.step(zero_grad=3)
    assert weight.detach().eq(1).all()


def test_what_stands_between_both_libraries_says_which_way_to_go(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"got Adam; torch.optim.lr_scheduler drives those of optimlite.torch"):
        ol.lr_scheduler.StepLR(ours.Adam(model.parameters()), 10)
    with pytest.raises(TypeError, match=r"'model.weight' must be an array, .*, got Tensor; give tensor.detach"):
        ol.save(tmp_path / "run.safetensors", model=model.state_dict())
