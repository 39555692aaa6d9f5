# Makes the golden files by running trajectories.py in torch 2.13.0:
# `python tests/support/golden/make_optimizers.py [row ...]`.
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support.trajectories import CASES, DTYPES, SNAPSHOTS, Case, Rows, Run, error, golden_file, pack, unpack


def orthogonalize(
    update: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """Muon's Newton-Schulz iteration in the dtype of the run.

    torch casts to bfloat16 first, whose 8 bits would hide every other difference; the algorithm is the same.
    """
    a, b, c = coefficients
    tall = update.shape[0] > update.shape[1]
    x = update.T if tall else update
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


@contextmanager
def torch_in(dtype: str) -> Iterator[None]:
    """torch with one dtype throughout: its default is also the dtype of scalar state such as NAdam's `mu_product`."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    muon = sys.modules["torch.optim._muon"]
    try:
        with (
            mock.patch.object(muon, "_zeropower_via_newtonschulz", orthogonalize),
            torch.sparse.check_sparse_tensor_invariants(enable=False),  # its default, but chosen: torch warns otherwise
        ):
            yield
    finally:
        torch.set_default_dtype(before)


def gradient(grad: np.ndarray | Rows, param: torch.Tensor) -> torch.Tensor:
    if isinstance(grad, Rows):
        indices, values = map(torch.from_numpy, grad)
        return torch.sparse_coo_tensor(indices[None], values, param.shape)
    return torch.from_numpy(grad)


def plain_loop(name: str) -> Any:
    """A class of torch.optim, kept from its foreach and fused paths."""
    make = getattr(torch.optim, name)
    return make if name in ("Muon", "SparseAdam") else lambda *args, **options: make(*args, foreach=False, **options)


TORCH = SimpleNamespace(
    optimizers=SimpleNamespace(**{case.optimizer: plain_loop(case.optimizer) for case in CASES.values()}),
    parameter=lambda a: torch.nn.Parameter(torch.from_numpy(a)),
    gradient=gradient,
    array=lambda t: t.detach().numpy() if isinstance(t, torch.Tensor) else np.asarray(t),
)


def trajectory(case: Case, dtype: str) -> dict[str, np.ndarray]:
    """The parameters at each snapshot, and with them the state after the last."""
    with torch_in(dtype):
        run = Run(case, dtype, TORCH)
        path = [pack(run.advance(t).values()) for t in SNAPSHOTS]
        end = pack(run.values() | run.state())
    return {f"{case.name}.{dtype}.path": np.stack(path), f"{case.name}.{dtype}.end": end}


def rounding(case: Case, golden: dict[str, np.ndarray]) -> float:
    """How far torch's float32 is from its float64: the gradients are the same numbers in both."""
    coarse, fine = (golden[f"{case.name}.{dtype}.path"] for dtype in DTYPES)
    return max(error(coarse[name][i], a) for i, record in enumerate(fine) for name, a in unpack(record).items())


def main(rows: list[str]) -> None:
    assert torch.__version__.split("+")[0] == "2.13.0", f"torch must be 2.13.0, got {torch.__version__}"
    for row in rows or dict.fromkeys(case.row for case in CASES.values()):
        golden: dict[str, Any] = {}
        for case in (case for case in CASES.values() if case.row == row):
            for dtype in DTYPES:
                golden |= trajectory(case, dtype)
            print(f"{case.name:75} float32 rounds by {rounding(case, golden):.1e}")
        np.savez_compressed(golden_file(row), **golden)


if __name__ == "__main__":
    main(sys.argv[1:])
