"""The benchmarks run, their contenders do the same work, and their reports say what was measured."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from statistics import median

import numpy as np
import pytest

from benchmarks import checkpoints, elementwise, formats, measure, measured, report, rows
from benchmarks.cases import CASES, WORKS, Case
from benchmarks.contenders import Optimlite, check, contenders
from benchmarks.peers import InPlace, Naive
from benchmarks.problem import Problem
from support.paths import ROOT

SMALL = Case("small", ((1,), (3,), (5, 7), (100_003,)))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The JSON file of a quick run."""
    path = tmp_path_factory.mktemp("benchmarks") / "results.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "2", "--optimizer", "Adam", "--case", "MLP",
               "--case", "overhead", "--case", "import", "--markdown", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| MLP, fresh gradients | **" in done.stdout
    return json.loads(path.read_text())


@pytest.mark.slow
def test_json_has_the_promised_keys(written):
    assert set(written) == {"machine", "rows", "figures", "targets"}
    steps = [row for row in written["rows"] if row["kind"] == "step"]
    assert [(row["case"], row["optimizer"], row["gradients"]) for row in steps] == [
        ("MLP", "Adam", "persistent"), ("MLP", "Adam", "fresh")]
    for row in steps:
        assert {"tensors", "elements", "bytes", "rounds", "seconds", "samples", "ratio", "gb_per_s"} <= set(row)
        assert {"NumPy naive", "NumPy in-place", "optimlite 1 thread", "optimlite", "limit"} <= set(row["seconds"])
        for name, seconds in row["seconds"].items():
            assert len(row["samples"][name]) == 2
            assert seconds == median(row["samples"][name]) > 0
            assert row["ratio"][name] == seconds / row["seconds"]["optimlite"]
            assert row["gb_per_s"][name] == 28 * 109_386 / seconds / 1e9
    assert set(written["figures"]) == {"one more tensor, persistent gradients", "one more tensor, fresh gradients",
                                       "a step on one tiny tensor", "import beyond numpy"}


@pytest.mark.slow
def test_plot(written, tmp_path):
    pytest.importorskip("matplotlib")
    report.plot(written["rows"], str(tmp_path / "steps.png"))
    assert (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.rest
@pytest.mark.parametrize("gradients", ["persistent", "fresh"])
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_contenders_agree(work, gradients):
    assert "optimlite" in contenders(Problem(SMALL, work, gradients))


@pytest.mark.parametrize("work", elementwise.WORKS, ids=lambda work: work.name)
def test_the_other_elementwise_optimizers_take_part(work):
    assert {"optimlite", "limit"} <= set(elementwise.contenders(SMALL, work))
    row = {"kind": "elementwise", "case": "ResNet-50", "optimizer": work.name, "ratio": {"limit": 0.89, "torch": 20.0}}
    assert [entry["met"] for entry in elementwise.targets([row, row | {"case": "200 x 1,000"}])] == [False, True]


@pytest.mark.parametrize("work", measured.WORKS, ids=lambda work: work.name)
def test_optimizers_that_measure_take_part(work):
    changing = Problem(SMALL, work, "fresh")             # constant gradients would hide a wrong beta
    check({"optimlite": Optimlite(changing), "NumPy in-place": measured.InPlace(changing)})
    present = measured.contenders(SMALL, work)
    assert list(present) == ["optimlite", "NumPy in-place", "Adam", "limit"]
    for _ in range(300):                 # what all share stays finite, however often the limit runs
        present["limit"]()
    assert all(np.isfinite(a).all() for a in present["limit"].arrays)
    row = {"kind": "measured", "case": "ResNet-50", "optimizer": work.name,
           "ratio": {"limit": 0.84, "Adam": 0.2, "NumPy in-place": 60.0}}
    assert [entry["met"] for entry in measured.targets([row, row | {"case": "500 x 32"}])] == [False, True, True]


@pytest.mark.parametrize(("other", "key"), [(InPlace, "beta2"), (Naive, "weight_decay")])
def test_other_work_is_refused(other, key):
    problem = Problem(SMALL, WORKS[-1], "fresh")       # constant gradients would hide a wrong beta
    present = {"other": other(problem), "optimlite": Optimlite(problem)}
    present["other"].h[key] *= 0.5
    with pytest.raises(RuntimeError, match="'other' doesn't do the work of 'optimlite'"):
        check(present)


def test_every_contender_is_measured_in_every_round(monkeypatch):
    calls = []
    monkeypatch.setattr(measure, "WARM", 0.0)
    samples = measure.measure({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=4, at_least=0)
    assert {name: len(values) for name, values in samples.items()} == {"a": 4, "b": 4, "c": 4}
    assert {calls.count(name) for name in "abc"} == {len(calls) / 3}


def test_a_contender_works_for_a_while_before_the_clock_starts():
    times = []
    measure.warm_up(lambda: times.append(time.perf_counter()))
    assert times[-1] - times[0] > measure.WARM / 2


def test_targets_are_compared_with_what_was_measured():
    row = {"kind": "step", "case": "MLP", "gradients": "persistent", "optimizer": "Adam",
           "ratio": {"torch fused": 2.0, "NumPy in-place": 3.99}}
    overhead = {"kind": "overhead", "samples": {"import numpy": [0.1, 0.3, 0.1],
                                                "import optimlite after numpy": [0.0161, 0.016, 0.048]}}
    checked = report.targets([row, {**row, "optimizer": "SGD"}, overhead])
    assert [(entry["target"], entry["met"]) for entry in checked] == [
        (">= 2", True), (">= 4", False), ("<= 15 ms", False)]
    assert np.isclose(rows.figures([overhead])["import beyond numpy"], 0.0161)


@pytest.mark.parametrize("present", [True, False])
def test_a_row_of_checkpoints_is_measured_and_compared_with_its_targets(present, monkeypatch):
    if not present:
        monkeypatch.setattr(checkpoints.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(checkpoints.MODELS, "gpt2-small", ((300, 7), (5,)))
    [row] = checkpoints.rows()
    result = replace(row, rounds=2).run()
    assert {"save", "restore", "restore unverified", "raw write", "raw read", "np.savez"} <= set(result["seconds"])
    lines = report.line(result).splitlines()
    assert [line.split("  ")[1] for line in lines] == list(result["seconds"])
    assert all("MB of more memory" in line for line in lines if line.split("  ")[1] in result.get("memory", ()))
    result["seconds"] = dict.fromkeys(result["seconds"], 1.0)
    met = {entry["what"]: entry["met"] for entry in report.targets([result])}
    assert met["checkpoint, save: raw write / optimlite"]
    assert not met["checkpoint, save: np.savez / optimlite"]


def test_bytes_of_a_step():
    assert [work.bytes_per_element for work in WORKS] == [12, 20, 28, 28]
    assert {case.name: case.elements for case in CASES}["GPT-2"] == 124_439_808


@pytest.mark.rest
def test_all_bfloat16_is_compared_with_torch():
    pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")
    assert {"optimlite", "torch fused"} <= set(formats.in_bfloat16(SMALL))


def test_formats_of_others_are_compared_if_there_are_any(monkeypatch, capsys):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: name not in ("bitsandbytes", "torchao"))
    assert [row.kind for row in formats.beside_others()] == ["all bfloat16"]
    assert "eight bits: without bitsandbytes, which isn't installed" in capsys.readouterr().err
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: name != "torch")
    assert list(formats.beside_others()) == []
    row = {"case": "ResNet-50", "seconds": {"optimlite": 1.0, "bitsandbytes": 10.0, "torchao": 2.9}}
    assert [entry["met"] for entry in formats.targets([row | {"kind": "eight bits"}])] == [True, False]
    row["seconds"] = {"optimlite": 1.0, "torch fused": 1.0, "optimlite 1 thread": 2.0, "torch fused 1 thread": 1.9}
    assert [entry["met"] for entry in formats.targets([row | {"kind": "all bfloat16"}])] == [True, False]
