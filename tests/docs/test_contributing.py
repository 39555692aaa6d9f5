"""The worked example of CONTRIBUTING.md: its pieces fit together; and whoever follows the page has an optimizer."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimlite import reference
from optimlite.native import dispatch
from optimlite.reference import elementwise
from support.paths import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RULE, = re.findall(r"```cython\n(.*?)```", TEXT, re.DOTALL)
CLASS, TWIN, ROWS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
VECTORS, = re.findall(r"^ *(objdump .*)$", TEXT, re.MULTILINE)
HASHES, = re.findall(r"`\.venv/bin/python (\S+make_bits\.py Signum)`", TEXT)
PLACES = re.findall(r"^\*\*\d\. [\w ]+\*\*,(?: in)? `([^`]+)`", TEXT, re.MULTILINE)


@pytest.fixture
def signum(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example's class; its twin is in place."""
    names: dict[str, Any] = {"__name__": "optimlite.optimizers.signum", "__package__": "optimlite.optimizers"}
    exec(CLASS, names)
    twin: dict[str, Any] = dict(vars(elementwise))
    exec(TWIN, twin)
    monkeypatch.setitem(reference.RULES, "signum", elementwise.Rule(twin["signum"]))
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
    [struct] = re.findall(r"^cdef struct (\w+):", RULE, re.MULTILINE)
    fields = re.findall(r"^    real (\w+)", RULE.split("cdef inline")[0], re.MULTILINE)
    optimizer = signum([np.ones(3)])
    name, slots = optimizer.rule(optimizer.param_groups[0])
    assert sorted(optimizer.coefficients(optimizer.param_groups[0], {}, True)) == sorted([*fields, "keep"])
    assert f'bind("{name}", run_{name}, {len(slots)}, "{struct}")' in RULE


# The whole way, in a copy of the tree --------------------------------------------------------------------------------

def insert(path: Path, text: str, before: str) -> None:
    """A piece in front of the one line that begins so."""
    content = path.read_text(encoding="utf-8")
    assert content.count("\n" + before) == 1, f"{path} and {before!r}"
    path.write_text(content.replace("\n" + before, "\n" + text + before), encoding="utf-8")


def follow(tree: Path) -> None:
    """What the page says, in its order."""
    rule, class_, twin, rows = (tree / place for place in PLACES)
    assert not any(path.exists() for path in (rule, class_))
    rule.write_text(RULE, encoding="utf-8")
    class_.write_text(CLASS, encoding="utf-8")
    insert(twin, TWIN + "\n\n", "RULES: dict[str, Rule] = {")
    insert(twin, '    "signum": Rule(signum),\n', '    "asgd": Rule(asgd, whole=True),')
    cases = rows.read_text(encoding="utf-8")
    rows.write_text(cases.replace("\n]\n", "\n" + ROWS + "]\n", 1), encoding="utf-8")             # CASES come first
    # "Make it known"
    [(line, where)] = re.findall(r"`(include \"[^`]+)` in `([^`]+)`", TEXT)
    with (tree / where).open("a", encoding="utf-8") as kernels:
        kernels.write(line + "\n")
    package = tree / "optimlite/__init__.py"
    insert(package, '    "Signum",\n', '    "SparseAdam", ')
    insert(package, "    from .optimizers.signum import Signum\n", "    from .optimizers.soap")
    insert(package, '    "optimizers.signum": "Signum",\n', '    "tools.early_stopping"')


@pytest.mark.rest
@pytest.mark.slow
@pytest.mark.plain
@pytest.mark.skipif(not (ROOT / "Makefile").exists(), reason="this test runs beside an installed package")
@pytest.mark.skipif(not importlib.util.find_spec("Cython"), reason="needs Cython")
def test_whoever_follows_the_page_has_an_optimizer(tmp_path: Path) -> None:
    """The pieces, one level built, the hashes, the tests that follow from the rows, the benchmark row, and the lint."""
    tree, level = tmp_path / "tree", dispatch.level
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "build", "dist", "*.so", "__pycache__", "output"))
    tools = Path(sys.executable).parent          # which call one another by name
    environment = {**os.environ, "PYTHONPATH": str(tree), "OPTIMLITE_LEVELS": level,
                   "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}

    def run(*command: str, program: str = sys.executable) -> str:
        done = subprocess.run([program, *command], cwd=tree, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
        return done.stdout

    follow(tree)
    run("setup.py", "-q", "build_ext", "--inplace")
    if level == "v3" and shutil.which("objdump"):
        counted = subprocess.run(VECTORS, shell=True, cwd=tree, capture_output=True, text=True)
        assert int(counted.stdout) > 0, counted.stderr
    made = run(*HASHES.split()).splitlines()
    assert [re.sub(r"\(.*", "", line) for line in made] == ["new Signum"] * 2
    selected = run("-m", "pytest", "-p", "no:cacheprovider", "--tb=line", "--hypothesis-profile=few", "--color=no",
                   "-k", "(signum or any_order or every_kernel or every_hash) and not a_row_has")
    passed = int(re.search(r"(\d+) passed", selected)[1])                # type: ignore[index]
    assert passed > 100, selected
    run("-m", "benchmarks", "--quick", "--rounds", "1", "--optimizer", "Signum", "--case", "200 x 1,000")
    run("tests/support/arrows.py")
    for tool, *what in (["ruff", "check", "."], ["mypy"], ["cython-lint", "pyx"]):
        if (tools / tool).exists():
            run(*what, program=str(tools / tool))
