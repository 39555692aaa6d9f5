"""Imports between the parts of the package point down, and what doesn't is found; no test imports another."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import optimlite
from support import arrows
from support.paths import TESTS

ENGINE = """
class Hooked:
    def _forget(self): ...

class Optimizer(Hooked):
    _format = None

    def __init__(self):
        self._plans = []
"""


def test_arrows_point_down() -> None:
    assert not arrows.faults(Path(optimlite.__file__).parent)


def test_every_part_has_its_place() -> None:
    package = Path(optimlite.__file__).parent
    parts = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts == set(arrows.RANK)


def test_nothing_imports_a_test() -> None:
    """What tests share is in support/."""
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [name.name for name in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            names += (node.module or "").split(".") if isinstance(node, ast.ImportFrom) else []
            assert not any(part.startswith("test_") for name in names for part in name.split(".")), path


@pytest.mark.parametrize(("path", "text", "fault"), [
    ("engine/plan.py", "from ..optimizers.adam import Adam", ":1: `engine` imports `optimizers`, which isn't below it"),
    ("engine/plan.py", "if TYPE_CHECKING:\n    from .. import closures", ":2: `engine` imports `closures`"),
    ("native/a.pyi", "def f():\n    import optimlite.engine.plan", ":2: `native` imports `engine`"),
    ("closures/a.py", "from ..lr_scheduler import base", ":1: `closures` imports `lr_scheduler`"),
    ("closures/a.py", "from optimlite import reference", ":1: `closures` imports `reference`"),
    ("checkpoint/a.py", "from .. import load", ":1: `checkpoint` imports `__init__`"),
    ("checkpoint/a.py", "import optimlite", ":1: `checkpoint` imports `__init__`"),
    ("average.py", "from .clipping import clip", ":1: `average` imports `clipping`"),
    ("optimizers/deep/a.py", "from .. import adam\nfrom ... import closures", ":2: `optimizers` imports `closures`"),
    ("lr_scheduler/_hidden.py", "", ": a module of a package has a name without underscore"),
    ("misc/a.py", "", ": `misc` has no place among the layers"),
    ("average.py", "def f(optimizer):\n    return optimizer._plans", ":2: `optimizer._plans` is the engine's own"),
    ("average.py", "opt().defaults._format", ":1: `opt().defaults._format` is the engine's own"),
    ("average.py", "[o._forget() for o in ()]", ":1: `o._forget` is the engine's own"),
])
def test_what_points_elsewhere_is_found(path: str, text: str, fault: str, tmp_path: Path) -> None:
    for name, content in (("engine/optimizer.py", ENGINE), (path, text)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    [found] = arrows.faults(tmp_path)
    assert found.removeprefix(str(tmp_path / path)).startswith(fault)


@pytest.mark.parametrize(("first", "second"), [
    ("from .b import B", "if TYPE_CHECKING:\n    from .a import A"),
    ("def f():\n    from . import b", "from optimlite.engine.a import A"),
    ("from . import A", "from .a import A"),
])
def test_a_circle_within_a_folder_is_found(first: str, second: str, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    other = "__init__" if first == "from . import A" else "b"
    (tmp_path / "engine" / "a.py").write_text(first)
    (tmp_path / "engine" / f"{other}.py").write_text(second)
    [found] = arrows.faults(tmp_path)
    assert found.startswith("a circle of imports: engine")
    (tmp_path / "engine" / "a.py").write_text("from ..checks import shown")
    assert not arrows.faults(tmp_path)


@pytest.mark.parametrize(("path", "text"), [
    ("engine/plan.py", "from ..native import dispatch\nfrom .optimizer import Optimizer\nOptimizer()._plans"),
    ("optimizers/adam.py", "from .. import checks\nfrom ..engine.optimizer import Optimizer\nimport numpy as np"),
    ("closures/a.py", "class A(Optimizer):\n    def f(self):\n        super()._forget()\n        return self._plans"),
    ("__main__.py", "from . import load\nfrom .checkpoint import reader"),
    ("__init__.py", "from . import native as native\nfrom .optimizers.adam import Adam"),
])
def test_what_points_down_is_not(path: str, text: str, tmp_path: Path) -> None:
    for name, content in (("engine/optimizer.py", ENGINE), (path, text)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert not arrows.faults(tmp_path)
