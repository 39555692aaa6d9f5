"""Every rule runs in whole vectors: none takes many times as long as Adam, where memory doesn't matter."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import TYPES
from support.cases import CASES, Case

# Times Adam's: 4.0 is the most (AdamP's), and 5.2 with modifiers, which measure the update in passes of their own.
# Where the compiler calls a rule for each element, instead of putting it into the loop, it is 7 to 19.
MOST, MOST_MODIFIED = 6.0, 9.0


def prepared(optimizer: type[ol.Optimizer], options: dict[str, Any], dtype: Any) -> ol.Optimizer:
    rng = np.random.default_rng(0)
    made = optimizer([rng.standard_normal((256, 256)).astype(dtype)], **options)
    made.step(grads=[rng.standard_normal((256, 256)).astype(dtype)])
    return made


def timed(optimizer: ol.Optimizer) -> float:
    start = time.perf_counter()
    optimizer.step()
    return time.perf_counter() - start


@pytest.mark.plain
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("case", [case for case in CASES if not case.whole], ids=lambda case: case.id)
def test_a_step_in_the_cache_takes_a_few_times_as_long_as_adams(case: Case, dtype: Any, threads: None) -> None:
    ol.set_num_threads(1)
    pair = prepared(case.optimizer, case.options, dtype), prepared(ol.Adam, {"lr": 1e-3}, dtype)
    own, adams = np.min([[timed(optimizer) for optimizer in pair] for _ in range(40)], axis=0)
    modified = {"cautious", "max_update_rms"} & case.options.keys()
    assert own < (MOST_MODIFIED if modified else MOST) * adams
