"""State dicts for PyTorch: what an optimizer here has learnt goes on there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine.formats import is_bfloat16


def to_torch(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict that torch's optimizer of the same name loads with `load_state_dict` (L-BFGS excepted).

    state_dict: what `opt.state_dict()` returned.

    Arrays become tensors (copies); step counters become float32 as torch keeps them, which counts exactly up to 2**24
    steps.  Raises ImportError if torch isn't installed, and ValueError for state in int8, which torch would take for
    numbers.

        >>> opt = ol.Adam([np.ones(3)])
        >>> opt.step(grads=[np.ones(3)])
        >>> state_dict = ol.to_torch(opt.state_dict())               # doctest: +SKIP
        >>> torch.optim.Adam([tensor]).load_state_dict(state_dict)   # doctest: +SKIP
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"`state_dict` must be a dict, such as opt.state_dict(), got {type(state_dict).__name__}")
    try:
        import torch
    except ImportError:
        raise ImportError("`to_torch` needs PyTorch; install it with `pip install torch`") from None
    def tensor(array: Any) -> Any:
        if is_bfloat16(array.dtype):
            return torch.from_numpy(array.copy()).view(torch.bfloat16)
        return torch.tensor(array, dtype=torch.get_default_dtype() if array.dtype.kind == "i" else None)

    for index, entries in state_dict["state"].items():
        for key in entries:
            if f"{key}_scale" in entries:
                raise ValueError(f"state[{index}]['{key}'] is in int8, which torch would take for numbers; load it "
                                 f"into an optimizer with state_dtype=None, and give that one's state_dict()")
    state = {index: {key: tensor(array) for key, array in entries.items()}
             for index, entries in state_dict["state"].items()}
    return {"state": state, "param_groups": [dict(group) for group in state_dict["param_groups"]]}
