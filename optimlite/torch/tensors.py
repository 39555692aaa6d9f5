"""Tensors as the arrays that kernels read and write: which are taken, and what is said of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..engine.formats import BFLOAT16, is_bfloat16
from ..engine.optimizer import Optimizer
from ..engine.sparse_grad import SparseGrad

FLOATS = (torch.float32, torch.float64)          # what all optimizers take; many also take the next two
HALVES, COMPLEX = (torch.bfloat16, torch.float16), (torch.complex64, torch.complex128)


def dtypes_of(kind: type[Optimizer]) -> tuple[torch.dtype, ...]:
    """What parameters may be."""
    return FLOATS + HALVES * (kind.takes_halves and kind.by_element) + COMPLEX * kind.by_element


def plain_name(dtype: torch.dtype | torch.layout) -> str:
    return str(dtype).removeprefix("torch.")


def memory_of(tensor: torch.Tensor) -> np.ndarray:
    """The array that shares a dense tensor's memory; of bfloat16, which NumPy hasn't, the bits."""
    array: np.ndarray = (tensor.view(torch.int16).numpy().view(BFLOAT16) if tensor.dtype is torch.bfloat16
                         else tensor.numpy())
    return array


def array_of(tensor: Any, name: str, kind: type[Optimizer]) -> np.ndarray:
    """The array that shares a parameter's memory; raises, with the cure, if there can be none for this optimizer."""
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
    if tensor.dtype not in (taken := dtypes_of(kind)):
        cure = ("use torch.view_as_real(tensor), which shares its memory" if tensor.is_complex() else
                "use model.float() before")
        *others, last = map(plain_name, taken)
        raise TypeError(f"{what} must be {', '.join(others)} or {last} for {kind.__name__}, got "
                        f"{plain_name(tensor.dtype)}; {cure}")
    if tensor.is_conj() or tensor.is_neg():
        raise ValueError(f"{what} must hold its values themselves, got a view of their conjugate or negative; "
                         f"use tensor.resolve_conj().resolve_neg()")
    return memory_of(tensor.detach())


def gradient_of(grad: torch.Tensor, name: str) -> np.ndarray | SparseGrad:
    """A gradient's values where they lie; a sparse one's rows."""
    if grad.dtype is not torch.bfloat16:
        try:
            values: np.ndarray = grad.numpy()    # refuses what isn't dense, or not what it seems, or has a graph
            return values
        except (TypeError, RuntimeError):
            pass
    if grad.layout is torch.sparse_coo:
        if grad.sparse_dim() != 1:
            raise TypeError(f"gradient of '{name}' must be sparse in its first axis alone, got {grad.sparse_dim()} "
                            f"sparse axes; use grad.to_dense()")
        if grad.dtype in HALVES:
            raise TypeError(f"gradient of '{name}' must be dense where it has 16 bits, got sparse "
                            f"{plain_name(grad.dtype)}; use grad.to_dense(), or torch.nn.Embedding(sparse=False)")
        return SparseGrad(grad._indices()[0].numpy(), memory_of(resolved(grad._values())))
    if grad.layout is not torch.strided:
        raise TypeError(f"gradient of '{name}' must be dense or sparse by rows, got {plain_name(grad.layout)}; "
                        f"use grad.to_dense()")
    return memory_of(resolved(grad))


def resolved(grad: torch.Tensor) -> torch.Tensor:
    """The gradient, or a copy of one that is a view of its conjugate or negative."""
    return grad.detach().resolve_conj().resolve_neg()


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """A tensor in the memory of an array of state; bfloat16's bits as what they are."""
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if is_bfloat16(array.dtype) else tensor


def plain(value: Any) -> Any:
    """A hyper-parameter without tensors: torch takes `lr=torch.tensor(0.1)`."""
    if isinstance(value, torch.Tensor):
        return value.item() if value.numel() == 1 else value
    return tuple(map(plain, value)) if type(value) is tuple else value
