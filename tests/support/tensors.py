# Networks and training loops of torch's, and its tensors in any layout.
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")


def network(dtype: Any = None) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.LayerNorm(8), torch.nn.Linear(8, 3)
                               ).to(dtype or torch.float64)


X, Y = np.random.default_rng(0).standard_normal((2, 16, 5))


def loss_of(model: Any) -> Any:
    kind = next(model.parameters()).dtype
    return ((model(torch.tensor(X, dtype=kind)) - torch.tensor(Y[:, :3], dtype=kind)) ** 2).mean()


def train(model: Any, optimizer: Any, steps: int, scheduler: Any = None) -> None:
    for _ in range(steps):
        def closure() -> Any:
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            return loss

        optimizer.step(closure)
        if scheduler:
            scheduler.step()


def values(model: Any) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in model.parameters()]


def assert_near(one: Any, other: Any, bound: float) -> None:
    for a, b in zip(one, other, strict=True):
        assert np.abs(a - b).max(initial=0) <= bound * max(1, np.abs(b).max(initial=0))


def laid_out(values: np.ndarray, layout: int) -> Any:
    """The same values contiguous, transposed in memory, or with gaps."""
    tensor = torch.from_numpy(np.array(values))
    backwards = tuple(range(tensor.ndim))[::-1]
    if layout == 1:
        return tensor.permute(backwards).contiguous().permute(backwards)
    if layout == 2 and tensor.ndim:
        wide = torch.zeros((*tensor.shape[:-1], 2 * tensor.shape[-1]), dtype=tensor.dtype)
        wide[..., ::2] = tensor
        return wide[..., ::2]
    return tensor
