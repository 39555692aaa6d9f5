"""Checkpoints to PyTorch's files and back. The weights alone are read: nothing in such a file is executed."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..torch_bridge import to_torch
from . import CheckpointError, load
from .background import save


def convert(source: str, target: str) -> None:
    """A torch.save file to a checkpoint, or, if `source` is a safetensors file, the other way round."""
    try:
        import torch
    except ImportError:
        raise ImportError("`convert` needs PyTorch; install it with `pip install torch`") from None
    if source.endswith(".safetensors"):
        torch.save(as_torch(load(source)), target)
        return
    try:
        found = as_numpy(torch.load(source, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError) as fault:
        raise CheckpointError(f"{source}: {fault}") from None
    save(target, found if isinstance(found, dict) and all(isinstance(key, str) for key in found) else {"value": found})


def as_numpy(node: Any) -> Any:
    import torch

    if isinstance(node, torch.Tensor):
        if node.dtype is not torch.bfloat16:
            return node.detach().resolve_conj().resolve_neg().numpy()
        import ml_dtypes

        return node.detach().contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    if isinstance(node, Mapping):
        return {key: as_numpy(child) for key, child in node.items()}
    if isinstance(node, (list, tuple)):
        items = [as_numpy(child) for child in node]
        return tuple(items) if isinstance(node, tuple) else items
    return node


def as_torch(node: Any) -> Any:
    import torch

    if isinstance(node, np.ndarray):
        if node.dtype.name == "bfloat16":
            return torch.from_numpy(node.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(node)
    if isinstance(node, dict) and node.keys() == {"state", "param_groups"}:
        node = to_torch(node)                            # scalar state as torch's optimizers keep it
    if isinstance(node, Mapping):
        return {key: as_torch(child) for key, child in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(as_torch(child) for child in node)
    return node
