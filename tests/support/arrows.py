"""Which part of optimlite may import which, checked on the syntax trees: `make lint` runs it.

A part is a folder of optimlite/, or a module beside the folders.  Arrows between parts point down the list below, never
up or sideways, and the modules of a folder import each other in no circle.  That holds wherever an import stands: in a
function and under TYPE_CHECKING too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
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
BASES = ("Optimizer", "RuleOptimizer", "Grouped", "Hooked")        # whose private names are the engine's own
RANK = {part: rank for rank, line in enumerate(LAYERS.split("\n")) for part in line.split()}

Module = tuple[str, ...]                         # its path inside the package; a folder's for its __init__


def faults(package: Path) -> list[str]:
    """A line for each arrow that doesn't point down, hidden file, and use of what is private to an optimizer.

    One more for a circle, if there is any.
    """
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py*"))
             if path.suffix in (".py", ".pyi")}
    private = set().union(*(privates(tree) for path, tree in trees.items() if path.parent.name == "engine"))
    found = []
    graph: dict[Module, set[Module]] = {module_of(path.relative_to(package)): set() for path in trees}
    for path, tree in trees.items():
        module = module_of(path.relative_to(package))
        here = module[0]
        if here not in RANK:
            found.append(f"{path}: `{here}` has no place among the layers of {Path(__file__).name}")
            continue
        if path.name.startswith("_") and path.stem not in ("__init__", "__main__"):
            found.append(f"{path}: a module of a package has a name without underscore")
        for line, target in imports(path.relative_to(package).parts, tree):
            there = part_of(target)
            if there != here and RANK[there] <= RANK[here]:
                found.append(f"{path}:{line}: `{here}` imports `{there}`, which isn't below it")
            prefixes = [target[:end] for end in range(len(target), 0, -1)]
            graph[module] |= {next((one for one in prefixes if one in graph), ("__init__",))} - {module}
        if here != "engine":
            found += [f"{path}:{line}: `{text}` is the engine's own" for line, text in reached(tree, private)]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as fault:
        found.append(f"a circle of imports: {' <- '.join(map('.'.join, fault.args[1]))}")
    return found


def module_of(path: Path) -> Module:
    parts = path.with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts


def part_of(module: Module) -> str:
    """The folder or module that something belongs to; what the package itself exports is in `__init__`."""
    return module[0] if module and module[0] in RANK else "__init__"


def imports(parts: tuple[str, ...], tree: ast.AST) -> Iterator[tuple[int, Module]]:
    """What a file imports of the package, with the line: modules, or names in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "optimlite":
                    yield node.lineno, tuple(name.name.split(".")[1:])
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".") if node.module else []
            if node.level:                       # within the package: from the folder of this file upwards
                target = [*parts[:len(parts) - node.level], *module]
            elif module[:1] == ["optimlite"]:
                target = module[1:]
            else:
                continue
            for name in node.names:
                yield node.lineno, (*target, name.name)


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
