"""Models and optimizers by joblib: what would come back apart, or read-only, is an error that names the cure."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import optimlite as ol

joblib = pytest.importorskip("joblib")


def trained(size: int) -> tuple[dict[str, np.ndarray], ol.Optimizer]:
    params = {"W": np.ones(size, np.float32)}
    optimizer = ol.Adam(params)
    optimizer.step(grads={"W": np.ones(size, np.float32)})
    return params, optimizer


def after_a_step(pair: tuple[dict[str, np.ndarray], ol.Optimizer]) -> bool:
    params, optimizer = pair
    before = params["W"].copy()
    optimizer.step(grads={"W": np.ones_like(before)})
    return bool((params["W"] != before).all())


@pytest.mark.parametrize("what", ["optimizer", "parameter", "average"])
def test_joblib_does_not_take_a_model_and_its_optimizer_apart(tmp_path: Path, what: str) -> None:
    params, optimizer = trained(3)
    made = {"optimizer": optimizer, "parameter": ol.Parameter(params["W"]), "average": ol.Average(params)}[what]
    with pytest.raises(TypeError, match=r"joblib.dump takes apart .* use ol.save\(path, model=params, optimizer=opt\)"):
        joblib.dump((params, made), tmp_path / "a")
    assert after_a_step(pickle.loads(pickle.dumps((params, optimizer))))
    joblib.dump(params, tmp_path / "a")                  # arrays alone are joblib's business
    assert isinstance(joblib.hash(optimizer), str)       # and nothing comes back from a hash


def test_large_arrays_in_a_worker_are_read_only_and_the_error_says_so() -> None:
    work = trained(400_000)
    with pytest.raises(Exception, match="un-serialize") as caught:
        joblib.Parallel(2)([joblib.delayed(after_a_step)(work)] * 2)
    assert "came to this process read-only" in str(caught.value.__cause__)
    assert "max_nbytes=None" in str(caught.value.__cause__)
    assert joblib.Parallel(2, max_nbytes=None)([joblib.delayed(after_a_step)(work)] * 2) == [True, True]
