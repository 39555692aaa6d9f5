"""Tensors as the arrays that kernels read and write: which are taken, and what is said of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..engine.formats import is_bfloat16
from ..engine.sparse_grad import SparseGrad

# What NumPy has under the same bytes.  A 16-bit type would be a row here, once parameters may be of one.
DTYPES = (torch.float32, torch.float64)


def plain_name(dtype: torch.dtype | torch.layout) -> str:
    return str(dtype).removeprefix("torch.")


def array_of(tensor: Any, name: str) -> np.ndarray:
    """The array that shares a parameter's memory; raises, with the cure, if there can be none."""
    what = f"parameter '{name}'"
    if not isinstance(tensor, torch.Tensor):
        cure = "; optimlite's own classes take arrays" if isinstance(tensor, np.ndarray) else ""
        raise TypeError(f"{what} must be a tensor, got {type(tensor).__name__}{cure}")
    what = f"{what} of shape {tuple(tensor.shape)}"
    if tensor.device.type != "cpu":
        raise ValueError(f"{what} must be on the CPU, got one on {tensor.device}; use model.cpu() before, or "
                         f"torch.optim for parameters elsewhere")
    if tensor.layout is not torch.strided:
        raise TypeError(f"{what} must be dense, got {plain_name(tensor.layout)}; only gradients may be sparse")
    if tensor.dtype not in DTYPES:
        cure = ("use torch.view_as_real(tensor), which shares its memory" if tensor.is_complex() else
                "use model.float() before")
        raise TypeError(f"{what} must be float32 or float64, got {plain_name(tensor.dtype)}; {cure}")
    array: np.ndarray = tensor.detach().numpy()
    return array


def gradient_of(grad: torch.Tensor, name: str) -> np.ndarray | SparseGrad:
    """A gradient's values where they lie; a sparse one's rows."""
    if grad.layout is torch.sparse_coo:
        if grad.sparse_dim() != 1:
            raise TypeError(f"gradient of '{name}' must be sparse in its first axis alone, got {grad.sparse_dim()} "
                            f"sparse axes; use grad.to_dense()")
        values = grad._values().detach().numpy()
        return SparseGrad(grad._indices()[0].numpy(), values)
    if grad.layout is not torch.strided:
        raise TypeError(f"gradient of '{name}' must be dense or sparse by rows, got {plain_name(grad.layout)}; "
                        f"use grad.to_dense()")
    array: np.ndarray = grad.detach().resolve_neg().numpy()
    return array


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """A tensor in the memory of an array of state; bfloat16's bits as what they are."""
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if is_bfloat16(array.dtype) else tensor


def plain(value: Any) -> Any:
    """A hyper-parameter without tensors: torch takes `lr=torch.tensor(0.1)`."""
    if isinstance(value, torch.Tensor):
        return value.item() if value.numel() == 1 else value
    return tuple(map(plain, value)) if type(value) is tuple else value
