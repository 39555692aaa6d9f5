"""`plan`: what a sharded optimizer takes on each rank: bytes of memory, bytes over the network, and time for a step."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from ..catalogue import create
from ..checks import count, positive
from ..engine.parts import BLOCK
from ..mpi.reduction import ROOM
from .output import say, say_json, say_table


def plan(options: argparse.Namespace) -> int:
    params, ranks = count("--params", round(positive("--params", options.params))), count("--ranks", options.ranks)
    bandwidth, memory = positive("--bandwidth", options.bandwidth), positive("--memory", options.memory)
    found = planned(params, ranks, bandwidth, memory, state_bytes(options.optimizer, options.state_dtype))
    if options.json:
        say_json({"optimizer": options.optimizer, "params": params, "ranks": ranks, **found})
        return 0
    say(f"{options.optimizer} over {params:,} float32 parameters on {ranks} ranks.  A model of the cost: sums and the "
        f"step go at {memory / 1e9:g} GB/s of\nmemory, all else at {bandwidth / 1e9:g} GB/s of network each way, and "
        f"nothing overlaps or waits.\n")
    rows = [("bytes on a rank", "sharded", "replicated")]
    rows += [(what, f"{sharded:,}", f"{whole:,}") for what, (sharded, whole) in found["memory"].items()]
    say_table(rows, right=(1, 2))
    say(f"\nsent in a step, by each rank: {found['sent']:,} bytes")
    say_table([(what, f"{seconds * 1e3:.1f} ms") for what, seconds in found["seconds"].items()], right=(1,))
    return 0


def state_bytes(optimizer: str, state_dtype: str | None) -> float:
    """The bytes of state that an element takes, as a small step of the optimizer itself shows."""
    more: dict[str, Any] = {} if state_dtype is None else {"state_dtype": state_dtype}
    made = create(optimizer, [np.zeros((BLOCK // 128, 128), np.float32)], **more)
    made.step(grads=[np.ones((BLOCK // 128, 128), np.float32)])
    return sum(made.memory().state.values()) / BLOCK


def planned(params: int, ranks: int, bandwidth: float, memory: float, state: float) -> dict[str, Any]:
    whole, share = 4 * params, 4 * params // ranks
    sharded = {"parameters": whole, "gradients": whole, "state": round(state * params / ranks),
               "sums of the share": share if ranks > 1 else 0, "buffers, at most": ROOM if ranks > 1 else 0}
    replicated = {"parameters": whole, "gradients": whole, "state": round(state * params),
                  "sums of the share": whole if ranks > 1 else 0, "buffers, at most": ROOM if ranks > 1 else 0}
    held = {what: (sharded[what], replicated[what]) for what in sharded}
    held["total"] = sum(sharded.values()), sum(replicated.values())
    one_way = whole - share                      # the others' shares of gradients; then this share to all others
    moved = 3 * whole if ranks > 1 else 0        # copied into a buffer, added up, and copied out
    seconds = {"sum of gradients": one_way / bandwidth + moved / memory,
               "step of the share": (3 * share + 2 * state * params / ranks) / memory,
               "parameters to all": one_way / bandwidth + (2 * whole / memory if ranks > 1 else 0.0)}
    return {"memory": held, "sent": 2 * one_way, "seconds": {**seconds, "step": sum(seconds.values())}}
