"""Complex parameters have torch's numbers and torch's state: its optimizers see view_as_real."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol

WITH_TORCH: dict[str, list[dict[str, Any]]] = {
    "SGD": [{"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}], "Adam": [{"amsgrad": True, "weight_decay": 0.1}],
    "AdamW": [{"weight_decay": 0.1}], "Adagrad": [{"initial_accumulator_value": 0.3, "weight_decay": 0.1}],
    "Adadelta": [{"weight_decay": 0.1}], "Adamax": [{"weight_decay": 0.1}], "NAdam": [{"weight_decay": 0.1}],
    "RAdam": [{"weight_decay": 0.1}], "RMSprop": [{"momentum": 0.5, "centered": True}, {}], "Rprop": [{}],
    "ASGD": [{"weight_decay": 0.1}]}


@pytest.mark.parametrize(("name", "options"), [(name, one) for name, all in WITH_TORCH.items() for one in all])
def test_the_numbers_are_those_of_torch_whose_state_goes_both_ways(name: str, options: dict[str, Any],
                                                                   ) -> None:
    rng = np.random.default_rng(0)
    torch = pytest.importorskip("torch")
    kept = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)       # of the scalars that torch's NAdam and ASGD keep in tensors
    try:
        z = rng.standard_normal((3, 8)).view(complex)
        t = torch.tensor(z.copy(), requires_grad=True)
        ours, theirs = getattr(ol, name)({"z": z}, lr=0.01, **options), getattr(torch.optim, name)(
            [t], lr=0.01, **options)
        for _ in range(50):
            gradient = rng.standard_normal((3, 8)).view(complex)
            t.grad = torch.tensor(gradient)
            theirs.step()
            ours.step(grads={"z": gradient})
        np.testing.assert_allclose(z, t.detach().numpy(), rtol=0, atol=1e-12)
        for key, value in theirs.state[t].items():
            if key in ours.state["z"] and value is not None:
                np.testing.assert_allclose(ours.state["z"][key], np.asarray(value), rtol=1e-12, atol=1e-12)
        resumed = getattr(ol, name)({"z": z.copy()}, lr=0.01, **options)
        resumed.load_state_dict(theirs.state_dict())
        saved = ours.state_dict()
        theirs.load_state_dict({"state": {0: {key: torch.as_tensor(value) for key, value in saved["state"][0].items()}},
                                "param_groups": theirs.state_dict()["param_groups"]})
        gradient = rng.standard_normal((3, 8)).view(complex)
        t.grad = torch.tensor(gradient)
        theirs.step()
        resumed.step(grads=[gradient])
        np.testing.assert_allclose(resumed.param_groups[0]["params"][0].data, t.detach().numpy(), rtol=0, atol=1e-12)
    finally:
        torch.set_default_dtype(kept)
