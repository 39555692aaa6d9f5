"""State that bitsandbytes stores in 8 bits, as float32; torchao's tensors decode themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

NESTED = "__bnb_optimizer_quant_state__"         # under which its state dicts have what it has stored
SHARING = 256                                    # elements that share their largest magnitude
UNUSED = ("gnorm_vec", "max_unorm", "unorm_vec")         # of its clipping by percentiles


def decoded(saved: Mapping[str, Any], slots: Iterable[str], where: str) -> dict[str, Any]:
    """The entries under our names: what it calls state1 and state2 are the arrays of a rule, in order.

    Raises ValueError where codes lack their map of 256 values, or a largest magnitude for each 256 elements.
    """
    found = {**saved, **saved.get(NESTED, {})}
    for name in (NESTED, *UNUSED):
        found.pop(name, None)
    for number, slot in enumerate(slots, 1):
        if (stored := found.pop(f"state{number}", None)) is None:
            continue
        codes = array_of(stored)
        if codes.dtype == np.uint8:
            values, largest = (array_of(found.pop(f"{name}{number}", ())) for name in ("qmap", "absmax"))
            blocks = -(-codes.size // SHARING)
            if values.shape != (256,) or largest.shape != (blocks,):
                raise ValueError(f"{where} has codes in `state{number}` and must have 256 values in `qmap{number}` and "
                                 f"{blocks} in `absmax{number}`, got shapes {values.shape} and {largest.shape}")
            scale = np.repeat(largest.astype(np.float32), SHARING)[:codes.size]
            codes = (values.astype(np.float32)[codes.ravel()] * scale).reshape(codes.shape)
        found[slot] = codes
    return found


def array_of(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
