"""Every report that this project took to heart is named by a test: its project and number, in the name or docstring."""

from __future__ import annotations

import ast
import re

import pytest

from support.paths import TESTS

# Faults of other optimizers and schedulers, by what they teach; each number has a test of its own, or shares one.
REPORTS = {
    "vectorised updates skipped": "pytorch#191763",
    "state dicts alias, loading replaces": "pytorch#196083 pytorch#147288",
    "sets have no order": "pytorch#6031",
    "a parameter twice": "pytorch#40967",
    "amsgrad's maximum lost": "pytorch#78807",
    "step counters in half precision freeze": "ao#4915 DeepSpeed#8496",
    "32-bit sizes": "DeepSpeed#7640",
    "several parameters in a step": "DeepSpeed#1643 DeepSpeed#7819 DeepSpeed#8471",
    "instructions that the CPU lacks": "DeepSpeed#1886",
    "writes out of bounds": "thinc#664",
    "decay by another's rule": "FlagGems#4988 bitsandbytes#2010",
    "last_epoch: a jump on resume": "pytorch#60265 pytorch#102261",
    "one off after resume": "Lightning#1772 Lightning#4655",
    "sequences restored": "pytorch#119168 pytorch#162359 pytorch#171515",
    "milestones, and loading that changes its input": "pytorch#29697 pytorch#32756",
    "groups added after the scheduler": "pytorch#79888 pytorch#104361",
    "one cycle, one step too many": "flair#2954 pytorch#38170",
    "cosines: division by zero, eta_min": "pytorch#19180 pytorch#17913 pytorch#47560",
    "L-BFGS: NaN, float32, an early end": "pytorch#5953 pytorch#6838 pytorch#1039 minimize#8",
    "counts: where they start, whether they are saved": "optax#415 keras#13027",
    "a buffer shared by groups": "jettify#96",
    "clipping lets infinity pass": "pytorch#46849",
    "dampening in the first step": "pytorch#152833",
    "a hyper-parameter without effect": "kozistr#516",
}


def named() -> list[str]:
    """Name and docstring of every test, in small letters."""
    found = []
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.append(f"{node.name.replace('_', ' ')}: {ast.get_docstring(node)}".lower())
    return found


NAMED = named()


@pytest.mark.parametrize("report", [report for row in REPORTS.values() for report in row.split()])
def test_a_test_names_the_report(report: str) -> None:
    project, number = report.lower().split("#")
    assert any(project in test and re.search(rf"\b{number}\b", test) for test in NAMED)
