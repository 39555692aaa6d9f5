"""Every message on the page of errors is what a call says, to the letter."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.paths import ROOT

SHOWN = re.findall(r"^```text\n(.*?)\n```", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.S | re.M)
RUN = "run.safetensors"


def weights(dtype: Any = np.float32) -> np.ndarray:
    return np.ones((3, 2), dtype)


def adam() -> ol.Adam:
    return ol.Adam({"W": weights()})


def tensor() -> None:
    torch = pytest.importorskip("torch")
    ol.Adam([torch.ones(3)])


def twice() -> None:
    table = weights()
    ol.Adam([table, table[:2]])


def a_rate_of_its_own() -> None:
    adam().lr = 0.1  # type: ignore[attr-defined]


def gradients_by_a_name_that_no_parameter_has() -> None:
    opt = ol.Adam([{"params": [weights()]}])
    opt.step(grads={"encoder": {"W": weights()}})


def one_step_too_many() -> None:
    opt = adam()
    sched = ol.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=2)
    for _ in range(3):
        opt.step(grads={"W": weights()})
        sched.step()


def a_log_twice() -> None:
    ol.log.CSV("run.csv").close()
    ol.log.CSV("run.csv")


def damaged() -> None:
    ol.save(RUN, W=np.ones(2))
    path = Path(RUN)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    ol.load(RUN)


def another_model() -> None:
    ol.save(RUN, model={"W": weights(), "b": np.ones(2)})
    ol.restore(RUN, model={"W": weights(), "c": np.ones(2)})


def another_scheduler() -> None:
    torch = pytest.importorskip("torch")
    ol.lr_scheduler.StepLR(importlib.import_module("optimlite.torch").Adam([torch.ones(3)]), 10)


def a_loss_for_its_gradient() -> None:
    importlib.import_module("optimlite.autograd").adam(lambda x, i: (x * x).sum(), np.ones(3))


def a_name_for_a_class() -> None:
    pytest.importorskip("sklearn")
    importlib.import_module("optimlite.sklearn").MLPRegressor(optimizer="lion").fit(np.ones((4, 2)), np.ones(4))


CALLS: list[Callable[[], Any]] = [
    lambda: ol.Adam({"W": weights(int)}),
    lambda: ol.Adam({"b": 0.5}),
    tensor,
    lambda: ol.Adam([np.broadcast_to(1.0, (3,))]),
    twice,
    lambda: ol.Adam([]),
    lambda: ol.Adam([weights()], learning_rate=0.1),  # type: ignore[call-arg]
    lambda: ol.SGD([weights()], lr=-0.1),
    a_rate_of_its_own,
    lambda: ol.group_by_name({"W": weights()}, {"*.bias": {"weight_decay": 0}}),
    lambda: adam().step(grads={"W": weights(np.float64)}),
    lambda: ol.Adam({"b": np.ones(2)}).step(grads={"b": np.ones((8, 2))}),
    lambda: ol.Adam({"W": weights(), "b": np.ones(2)}).step(grads={"W": weights()}),
    gradients_by_a_name_that_no_parameter_has,
    lambda: adam().step(),
    lambda: adam().step(grads={"W": ol.SparseGrad([0], np.ones((1, 2), np.float32))}),
    lambda: ol.LBFGS([weights()]).step(),
    lambda: ol.LBFGS([weights()]).step(lambda: None),
    lambda: ol.minimize(lambda x: x, np.ones(2)),
    lambda: ol.lr_scheduler.StepLR(adam(), 10).step(),
    one_step_too_many,
    lambda: ol.lr_find(adam(), lambda: (np.nan, {"W": weights()})),
    a_log_twice,
    damaged,
    another_model,
    lambda: ol.Adam([weights(), weights()]).load_state_dict(ol.Adam([weights()]).state_dict()),
    lambda: ol.AdamW([weights()], fused=True),  # type: ignore[call-arg]
    another_scheduler,
    a_loss_for_its_gradient,
    a_name_for_a_class,
]


@pytest.mark.parametrize(("call", "shown"), list(zip(CALLS, SHOWN, strict=True)), ids=range(len(CALLS)))
def test_a_call_says_what_the_page_shows(call: Callable[[], Any], shown: str, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((Exception, Warning)) as caught:
        call()
    assert f"{caught.type.__name__}: {caught.value}" == shown
