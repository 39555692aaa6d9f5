"""Which part of optimlite may import which, checked on the syntax trees: `make lint` runs it.

A part is a folder of optimlite/, or a module beside the folders.  Arrows point down the list below, never up or
sideways, wherever an import stands: in a function and under TYPE_CHECKING too.  So there can be no circle.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

# Each line may import those under it.  `__init__` re-exports the others, and is imported by the
# command line and by bridges to other libraries alone, which see of the package what its users see.
LAYERS = """
__main__
autograd cli jax sklearn thinc torch
__init__
tools line_search schedules mpi
checkpoint log catalogue
average clipping grouping
optimizers closures lr_scheduler reference
swapping
engine
native
checks late_imports
__pyinstaller
"""
BASES = ("Optimizer", "RuleOptimizer", "Hooked")                   # whose private names are the engine's own
RANK = {part: rank for rank, line in enumerate(LAYERS.split("\n")) for part in line.split()}


def faults(package: Path) -> list[str]:
    """One line for each arrow that doesn't point down, hidden file, and use of what is private to an optimizer."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py*"))
             if path.suffix in (".py", ".pyi")}
    private = set().union(*(privates(tree) for path, tree in trees.items() if path.parent.name == "engine"))
    found = []
    for path, tree in trees.items():
        here = part_of(path.relative_to(package).parts)
        if here not in RANK:
            found.append(f"{path}: `{here}` has no place among the layers of {Path(__file__).name}")
            continue
        if path.name.startswith("_") and path.stem not in ("__init__", "__main__"):
            found.append(f"{path}: a module of a package has a name without underscore")
        for line, there in imports(path.relative_to(package).parts, tree):
            if there != here and RANK.get(there, -1) <= RANK[here]:
                found.append(f"{path}:{line}: `{here}` imports `{there}`, which isn't below it")
        if here != "engine":
            found += [f"{path}:{line}: `{text}` is the engine's own" for line, text in reached(tree, private)]
    return found


def part_of(parts: tuple[str, ...]) -> str:
    """The folder or module that a path inside the package belongs to."""
    return parts[0].partition(".")[0]


def imports(parts: tuple[str, ...], tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The parts of the package that a file imports, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "optimlite":
                    yield node.lineno, [*name.name.split("."), "__init__"][1]
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".") if node.module else []
            if node.level:                       # within the package: from the folder of this file upwards
                target = [*parts[:len(parts) - node.level], *module]
            elif module[:1] == ["optimlite"]:
                target = module[1:]
            else:
                continue
            for name in node.names:              # `from . import checks` at the top names a part, or something of its
                yield node.lineno, target[0] if target else name.name if name.name in RANK else "__init__"


def privates(tree: ast.AST) -> set[str]:
    """The private attributes and methods of `Optimizer` and what it derives from."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name in BASES]
    inside = [node for one in classes for node in ast.walk(one)]
    names = {node.name for node in inside if isinstance(node, ast.FunctionDef)}
    names |= {node.attr for node in inside if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    names |= {node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def reached(tree: ast.AST, private: set[str]) -> Iterator[tuple[int, str]]:
    """Private names asked of anything but oneself: a method may use and override what it inherits."""
    for node in ast.walk(tree):
        if (isinstance(node, ast.Attribute) and node.attr in private
                and (whose := ast.unparse(node.value)) not in ("self", "super()")):
            yield node.lineno, f"{whose}.{node.attr}"


if __name__ == "__main__":
    lines = faults(Path(__file__).resolve().parents[2] / "optimlite")
    print(*lines, sep="\n", end="\n" * bool(lines))
    sys.exit(bool(lines))
