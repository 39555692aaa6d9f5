"""Checkpoints to PyTorch's files and back. The weights alone are read: nothing in such a file is executed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import load
from .atomic import replacement
from .background import save
from .error import CheckpointError
from .files import path_of
from .foreign import PICKLE, TORCH, kind
from .reader import File
from .torch_states import to_torch

TORCHS = (".pt", ".pth", ".bin", ".ckpt", ".tar")        # names that torch's files have


def convert(source: str, target: str) -> None:
    """A torch.save file to a checkpoint, or a safetensors file, by its content, to a torch.save file."""
    to_torch_file = is_safetensors(source)
    named = target.lower().endswith(TORCHS)
    if to_torch_file and not named:
        raise ValueError(f"'{source}' is a safetensors file, which is converted to a file of torch.save: name that "
                         f"{', '.join(TORCHS[:-1])} or {TORCHS[-1]}, got '{target}'")
    if not to_torch_file and named:
        raise ValueError(f"'{source}' isn't a safetensors file, so it is converted to one: name that .safetensors, "
                         f"got '{target}'")
    try:
        import torch
    except ImportError:
        raise ImportError("`convert` needs PyTorch; install it with `pip install torch`") from None
    if to_torch_file:
        path = os.path.abspath(path_of(target))
        with replacement(path, True) as new, open(new.fileno(), "wb", closefd=False) as file:
            torch.save(as_torch(load(source)), file)
        return
    try:
        found = as_numpy(torch.load(source, map_location="cpu", weights_only=True))
    except OSError:
        raise
    except Exception as fault:                           # of whatever kind: PyTorch was given any bytes
        raise CheckpointError(f"{source}: PyTorch can't read it: {type(fault).__name__}: {fault}") from None
    save(target, found if isinstance(found, dict) and all(isinstance(key, str) for key in found) else {"value": found})


def is_safetensors(path: str) -> bool:
    """By the file's content: whether its header is one, or its name says that it should be."""
    try:
        with File(path):
            return True
    except CheckpointError:
        if path.lower().endswith(".safetensors") or not os.path.isfile(path):
            raise
    with open(path, "rb") as file:
        found = kind(file.read(64))
    if found and found not in (TORCH, PICKLE):          # an old torch.save is a plain pickle
        raise CheckpointError(f"{path}: {found}")
    return False


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
