"""The worked example of CONTRIBUTING.md: its class and its twin do what its formula says, and fit together."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from optimlite import reference
from optimlite.reference import rules
from support.paths import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RULE, = re.findall(r"```cython\n(.*?)```", TEXT, re.DOTALL)
CLASS, TWIN, _ = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def signum(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example's class; its twin is in place."""
    names: dict[str, Any] = {"__name__": "signum"}
    exec(CLASS, names)
    twin: dict[str, Any] = dict(vars(rules))
    exec(TWIN, twin)
    monkeypatch.setitem(rules.RULES, "signum", rules.Rule(twin["signum"]))
    return names["Signum"]


def test_the_example_does_what_its_formula_says(signum: Any) -> None:
    lr, momentum, decay = 0.01, 0.6, 0.1
    rng = np.random.default_rng(0)
    start = rng.standard_normal(100)
    optimizer = signum({"p": start.copy()}, lr=lr, momentum=momentum, weight_decay=decay)
    p, m = start, np.zeros(100)
    for _ in range(5):
        g = rng.standard_normal(100)
        optimizer._parameters()[0].grad = g
        reference.step(optimizer)
        m = momentum * m + (1 - momentum) * g
        p = (1 - lr * decay) * p - lr * np.sign(m)
    np.testing.assert_allclose(optimizer._parameters()[0].data, p, rtol=1e-14)
    np.testing.assert_allclose(optimizer.state["p"]["momentum_buffer"], m, rtol=1e-14)


def test_the_coefficients_fit_the_rules_struct(signum: Any) -> None:
    fields = re.findall(r"^    real (\w+)", RULE.split("cdef inline")[0], re.MULTILINE)
    optimizer = signum([np.ones(3)])
    name, slots = optimizer.rule(optimizer.param_groups[0])
    assert sorted(optimizer.coefficients(optimizer.param_groups[0], {}, True)) == sorted([*fields, "keep"])
    assert f'bind("{name}", run_{name}, {len(slots)}, {name}_fields)' in RULE
