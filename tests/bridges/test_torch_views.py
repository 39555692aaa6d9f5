"""Tensors and gradients that become other views of the same memory are seen by optimlite.torch."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from support.tensors import torch

ours: Any = importlib.import_module("optimlite.torch")


def conjugate(tensor: Any) -> None:
    tensor.grad = tensor.grad.conj()


def conjugate_inside(tensor: Any) -> None:
    tensor.grad.data = tensor.grad.conj()


def transpose(tensor: Any) -> None:
    tensor.grad = tensor.grad.t()


def transpose_in_place(tensor: Any) -> None:
    tensor.grad.t_()


def transpose_inside(tensor: Any) -> None:
    tensor.grad.data = tensor.grad.t()


def negate(tensor: Any) -> None:
    """As the imaginary part of a conjugate is: a view that changes signs."""
    tensor.grad = torch._neg_view(tensor.grad)


# Read where they lie, gathered, or large.
@pytest.mark.parametrize(("count", "side"), [(1, 3), (5, 3), (1, 130)])
@pytest.mark.parametrize("change", [conjugate, conjugate_inside, transpose, transpose_in_place, transpose_inside,
                                    negate])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_another_view_at_the_same_address_is_another_gradient(count: int, side: int, change: Any, dtype: Any) -> None:
    sides = []
    for kind in (ours.SGD, torch.optim.SGD):
        torch.manual_seed(0)
        tensors = [torch.nn.Parameter(torch.zeros(side, side, dtype=dtype)) for _ in range(count)]
        for tensor in tensors:
            tensor.grad = torch.randn(side, side, dtype=dtype)
        optimizer = kind(tensors, lr=0.5)
        for _ in range(3):
            optimizer.step()
            change(tensors[-1])
            optimizer.step()
        sides.append(tensors)
    assert all(map(torch.equal, *sides))


def test_values_that_are_negated_by_a_view_are_read_before_each_step() -> None:
    tensor = torch.nn.Parameter(torch.zeros(3))
    values = torch.zeros(3, dtype=torch.complex64)
    tensor.grad = values.conj().imag
    optimizer = ours.SGD([tensor], lr=1.0)
    for imaginary in (1.0, 2.0):
        values.imag.fill_(imaginary)
        optimizer.step()
    assert tensor.tolist() == [3.0] * 3


@pytest.mark.parametrize("change", ["data", "in place"])
def test_a_parameter_that_is_transposed_where_it_lies(change: str) -> None:
    sides = []
    for kind in (ours.SGD, torch.optim.SGD):
        torch.manual_seed(0)
        tensor = torch.nn.Parameter(torch.randn(3, 3))
        optimizer = kind([tensor], lr=0.5)
        for _ in range(3):
            tensor.grad = torch.randn(3, 3)
            optimizer.step()
            if change == "data":
                tensor.data = tensor.data.t()
            else:
                with torch.no_grad():
                    tensor.t_()
        sides.append(tensor)
    assert torch.equal(*sides)


def test_a_parameter_of_one_axis_that_becomes_every_second_element() -> None:
    sides = []
    for kind in (ours.SGD, torch.optim.SGD):
        whole = torch.zeros(8)
        tensor = torch.nn.Parameter(whole[:4])
        optimizer = kind([tensor], lr=1.0)
        for place in (whole[:4], whole[::2]):
            tensor.data, tensor.grad = place, torch.ones(4)
            optimizer.step()
        sides.append(whole)
    assert torch.equal(*sides)


def test_gathered_parameters_of_which_one_is_cut_off() -> None:
    tensors = [torch.nn.Parameter(torch.zeros(4)) for _ in range(5)]
    optimizer = ours.SGD(tensors, lr=1.0)
    for tensor in tensors:
        tensor.grad = torch.ones(4)
    optimizer.step()
    tensors[0].data = tensors[0].data[:2]
    for at, tensor in enumerate(tensors):
        tensor.grad = torch.full_like(tensor, at + 1.0)
    for _ in range(2):
        with pytest.warns(UserWarning, match="resized"), pytest.raises(ValueError, match="has shape"):
            optimizer.step()
    assert all(tensor.eq(-1).all() for tensor in tensors)
