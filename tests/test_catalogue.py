"""Optimizers by name: what there is, what each needs, and how one is made of a configuration's text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.catalogue import COMMON, KINDS, WRAPPERS
from optimlite.engine.whole_matrix import MatrixOptimizer
from optimlite.engine.wrapper import Wrapper
from support.cases import CASES, ROWS
from support.helpers import refusals

CLASSES = {name: thing for name in ol.__all__
           if isinstance(thing := getattr(ol, name), type) and issubclass(thing, ol.Optimizer)
           and thing is not ol.Optimizer and name not in WRAPPERS}


def kind_of(name: str) -> type:
    thing = getattr(ol, name)
    return thing if isinstance(thing, type) else object


def test_every_optimizer_is_there() -> None:
    found = ol.available()
    assert set(found) == set(CLASSES)
    assert {name for name in ol.__all__ if issubclass(kind_of(name), Wrapper)} == set(WRAPPERS)
    assert sorted(found, key=str.lower) == list(found)
    assert {needs.kind for needs in found.values()} == set(KINDS)


def test_kinds_are_those_that_the_tests_know() -> None:
    """An optimizer is elementwise if its row without options is."""
    default = {}
    for case in [*CASES, *ROWS]:
        default.setdefault(case.optimizer.__name__, case)
    for name, case in default.items():
        needs = ol.available()[name]
        assert needs.elementwise is case.elementwise, name
        assert (needs.kind == "matrix") is issubclass(case.optimizer, MatrixOptimizer)
        assert not needs.closure
    for kind in KINDS:
        assert list(ol.available(kind)) == [name for name, needs in ol.available().items() if needs.kind == kind]
    assert all(needs.closure and needs.state_bytes is None for needs in ol.available("closure").values())


@pytest.mark.parametrize("name", [name for name, needs in ol.available().items()
                                  if not needs.closure and name != "SparseAdam"])
def test_state_has_as_many_bytes(name: str) -> None:
    w = np.zeros((1024, 1024), np.float32)
    opt: Any = ol.create(name, {"w": w})
    for _ in range(2):                           # ADOPT's first step moves nothing, and has all state
        opt.step(grads={"w": np.ones_like(w)})
    arrays = [array for array in opt.state["w"].values() if array.ndim]
    assert ol.available()[name].state_bytes == sum(array.nbytes for array in arrays) / w.size


@pytest.mark.parametrize(("name", "kind", "options"), [
    ("adamw", "AdamW", {}), ("AdamW", "AdamW", {}), ("adam-w", "AdamW", {}), ("ADAM_W", "AdamW", {}),
    ("torch.optim.RMSprop", "RMSprop", {}), ("l-bfgs", "LBFGS", {}), ("cg", "ConjugateGradient", {}),
    ("schedule-free-adamw", "ScheduleFreeAdamW", {}), ("momentum", "SGD", {"momentum": 0.9}),
    ("nag", "SGD", {"momentum": 0.9, "nesterov": True}), ("amsgrad", "Adam", {"amsgrad": True}),
    ("nadamw", "NAdam", {"decoupled_weight_decay": True}), ("c-lion", "Lion", {"cautious": True}),
    ("cnadamw", "NAdam", {"decoupled_weight_decay": True, "cautious": True}),
])
def test_names(name: str, kind: str, options: dict[str, Any]) -> None:
    made = ol.create(name, [np.ones(3)], lr=0.125)
    assert type(made) is CLASSES[kind]
    assert {key: made.param_groups[0][key] for key in options} == options
    assert made.param_groups[0]["lr"] == 0.125


@pytest.mark.parametrize("name", COMMON)
def test_names_of_other_libraries_make_one(name: str) -> None:
    assert isinstance(ol.create(name, [np.ones((2, 2))]), CLASSES[COMMON[name][0]])
    assert name not in {each.lower() for each in CLASSES}


def test_given_options_win() -> None:
    assert ol.create("sgdm", [np.ones(3)], momentum=0.5).param_groups[0]["momentum"] == 0.5


test_what_is_refused = refusals([
    (lambda: ol.create("adamm", [np.ones(3)]), r"^`name` must be the name of an optimizer, got 'adamm'; did you mean"),
    (lambda: ol.create("crprop", [np.ones(3)]), "^`name` must be the name of an optimizer, got 'crprop'; "),
    (lambda: ol.create("", [np.ones(3)]), r"^`name` must be the name of an optimizer, got ''; ol.available\(\) has"),
    (lambda: ol.create(ol.SGD, [np.ones(3)]),  # type: ignore[arg-type]
     "^`name` must be the name of an optimizer, such as 'adamw', got <class"),
    (lambda: ol.create("adamw", [np.ones(3)], learning_rate=1), r"^AdamW has no argument `learning_rate`; did you"),
    (lambda: ol.available("fast"), "^`kind` must be None or one of 'elementwise', 'measuring', 'matrix', 'closure', "),
])
