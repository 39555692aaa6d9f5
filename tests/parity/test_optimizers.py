# optimlite and torch side by side: the golden comparison live, and state that travels between the two.
import importlib
import inspect

import numpy as np
import pytest

import optimlite as ol
from support.trajectories import CASES, DTYPES, READY, SNAPSHOTS, Run, assert_agree, optimlite

torch = pytest.importorskip("torch")
torch_side = importlib.import_module("support.golden.make_optimizers")  # only now: it imports torch

ON = [name for name, case in CASES.items() if case.row in READY]
EXECUTION = {"params", "foreach", "fused", "capturable", "differentiable"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ON)
def test_the_trajectory_is_torchs(name: str, dtype: str) -> None:
    ours, theirs = (Run(CASES[name], dtype, library) for library in (optimlite(), torch_side.TORCH))
    with torch_side.torch_in(dtype):
        for step in SNAPSHOTS:
            assert_agree(ours.advance(step).values(), theirs.advance(step).values(), dtype, f"{name} at step {step}")
        assert_agree(ours.state(), theirs.state(), dtype, f"the state of {name}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ON)
def test_torchs_state_continues_here(name: str, dtype: str) -> None:
    with torch_side.torch_in(dtype):
        theirs = Run(CASES[name], dtype, torch_side.TORCH).advance(50)
        ours = Run(CASES[name], dtype, optimlite(), at=50, values=theirs.values())
        ours.optimizer.load_state_dict(theirs.optimizer.state_dict())
        theirs.advance(100)
    ours.advance(100)
    assert_agree(ours.values() | ours.state(), theirs.values() | theirs.state(), dtype, name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ON)
def test_our_state_continues_in_torch(name: str, dtype: str) -> None:
    ours = Run(CASES[name], dtype, optimlite()).advance(50)
    with torch_side.torch_in(dtype):
        there = Run(CASES[name], dtype, torch_side.TORCH, at=50, values=ours.values())
        there.optimizer.load_state_dict(ol.to_torch(ours.optimizer.state_dict()))
        there.advance(100)
        throughout = Run(CASES[name], dtype, torch_side.TORCH).advance(100)
    assert_agree(there.values() | there.state(), throughout.values() | throughout.state(), dtype, name)


@pytest.mark.parametrize("optimizer", dict.fromkeys(CASES[name].optimizer for name in ON))
def test_the_options_are_torchs(optimizer: str) -> None:
    """The same names and defaults, and the table of trajectories varies every one of them."""
    ours, theirs = (inspect.signature(getattr(where, optimizer)).parameters for where in (ol, torch.optim))
    options = {name: option.default for name, option in theirs.items() if name not in EXECUTION}
    assert {name: ours[name].default for name in options} == options
    cases = [case for case in CASES.values() if case.optimizer == optimizer]
    varied = {name for case in cases for name, value in case.options.items() if value != options[name]}
    assert varied == options.keys()


def test_groups_arrive_in_torch_with_their_hyper_parameters() -> None:
    ours = ol.Adam([{"params": [np.ones(3)], "lr": 0.5}, {"params": [np.ones(2)], "betas": (0.5, 0.6)}], eps=1e-3)
    theirs = torch.optim.Adam([{"params": [torch.ones(3)]}, {"params": [torch.ones(2)]}])
    theirs.load_state_dict(ol.to_torch(ours.state_dict()))
    for mine, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert {key: other[key] for key in mine if key != "params"} == {k: v for k, v in mine.items() if k != "params"}


# Adafactor's and Muon's options are not all numbers and pairs of numbers: engine/test_errors.py has their refusals.
@pytest.mark.parametrize("optimizer", dict.fromkeys(
    CASES[name].optimizer for name in ON if CASES[name].optimizer not in ("Adafactor", "Muon")))
def test_what_torch_refuses_is_refused_here(optimizer: str) -> None:
    """And what is refused beyond that is torch's oversight: NaN and infinity, and values without a meaning."""
    stricter, theirs_take = set(), inspect.signature(getattr(torch.optim, optimizer)).parameters
    for name, option in inspect.signature(getattr(ol, optimizer)).parameters.items():
        if name == "params" or name not in theirs_take or isinstance(option.default, bool):
            continue
        for bad in (-1.0, -1e-9, 1.0, 1.5, float("nan"), float("inf")):
            both = [bad]
            if isinstance(option.default, tuple):
                both = [(bad, option.default[1]), (option.default[0], bad)]
            for value in both:
                answers = []
                for make, array in ((getattr(ol, optimizer), np.ones(2)), (getattr(torch.optim, optimizer),
                                                                           torch.ones(2))):
                    try:
                        make([array], **{name: value})
                        answers.append(True)
                    except ValueError:
                        answers.append(False)
                ours, theirs = answers
                assert theirs or not ours, f"torch refuses {name}={value}"
                if theirs and not ours and np.isfinite(value).all():
                    stricter.add(name)
    assert stricter == {"RMSprop": {"alpha"}, "Rprop": {"step_sizes"}, "ASGD": {"lambd", "alpha"}}.get(optimizer, set())


def test_0d_state_arrives_in_torch_in_full_precision() -> None:
    ours = ol.NAdam([np.ones(())])
    ours.step(grads=[np.asarray(1 / 3)])
    there = torch.optim.NAdam([torch.nn.Parameter(torch.ones((), dtype=torch.float64))])
    there.load_state_dict(ol.to_torch(ours.state_dict()))
    for key, array in ours.state["0"].items():
        assert there.state_dict()["state"][0][key].item() == array.item()
