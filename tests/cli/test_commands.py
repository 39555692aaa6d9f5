"""Every verb of the command line: help, text, JSON, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.__main__ import main
from optimlite.cli import bench
from optimlite.native import dispatch

VERBS = ("info", "bench", "inspect", "verify", "convert", "plot", "plan")


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main([*map(str, arguments)]) == code
    out, err = capsys.readouterr()
    assert bool(err) == bool(code)
    return err or out


def saved(path: Path) -> Path:
    opt = ol.Adam({"W": np.ones((2, 3))})
    opt.step(grads={"W": np.ones((2, 3))})
    ol.save(path, optimizer=opt, epoch=3)
    return path


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["inspekt"], ["inspect"], ["info", "--yaml"], ["bench", "--seconds", "x"]])
def test_a_wrong_command_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m optimlite" in capsys.readouterr().err


def test_info_says_what_was_chosen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIMLITE_NOTE", "1")
    text = said(capsys, "info")
    assert f"level             {dispatch.level}\n" in text
    found = json.loads(said(capsys, "info", "--json"))
    assert (found["optimlite"], found["level"]) == (ol.__version__, dispatch.level)
    assert found["threads"] == ol.get_num_threads()
    assert found["NumPy"] == np.__version__
    assert "OPTIMLITE_NOTE=1" in found["settings"]
    assert set(map(str, found)) == {line.split("  ")[0] for line in text.splitlines()}


def test_bench_measures_all_cases(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "CASES", {"small": [(3,)] * 5, "one": [(100,)]})
    found = json.loads(said(capsys, "bench", "--json", "--seconds", "0.1"))
    assert [row["case"] for row in found["cases"]] == ["small", "one"]
    for row in found["cases"]:
        assert row["rounds"] >= bench.FEWEST
        assert row["GB/s"] == pytest.approx(row["elements"] * 28 / row["seconds"] / 1e9)
    lines = said(capsys, "bench", "--seconds", "0.1").splitlines()
    assert lines[-3].split("  ")[0] == "parameters"
    assert lines[-1].startswith("one ")
    assert "`--seconds` must be > 0, got -1" in said(capsys, "bench", "--seconds", "-1", code=1)


def test_the_numpy_that_it_is_compared_with_does_the_same_step() -> None:
    gradients = [np.random.default_rng(i).standard_normal(5).astype(np.float32) for i in range(3)]
    by_hand, arrays = bench.InPlace(gradients), [np.zeros(5, np.float32) for _ in gradients]
    opt = ol.Adam(arrays)
    for _ in range(10):
        by_hand.step()
        opt.step(grads=gradients)
    for p, array in zip(by_hand.p, arrays, strict=True):
        np.testing.assert_allclose(p, array, rtol=1e-4)


def test_inspect_and_verify_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "run.safetensors")
    found = json.loads(said(capsys, "inspect", path, "--json"))
    arrays = {each["name"]: each for each in found["arrays"]}
    exp_avg = next(each for name, each in arrays.items() if name.endswith("exp_avg"))
    assert (exp_avg["dtype"], exp_avg["shape"], exp_avg["bytes"], exp_avg["checksum"]) == ("F64", [2, 3], 48, "ok")
    assert "epoch: 3" in found["facts"]
    assert json.loads(said(capsys, "verify", path, "--json")) == {
        "file": str(path), "arrays": len(arrays), "bytes": path.stat().st_size, "checksums": True}
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert main(["inspect", str(path), "--json"]) == 1
    assert "DAMAGED" in [each["checksum"] for each in json.loads(capsys.readouterr().out)["arrays"]]
    assert "checksum" in said(capsys, "verify", path, "--json", code=1)


def test_convert_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"W": torch.ones(2)}, tmp_path / "a.pt")
    target = tmp_path / "a.safetensors"
    assert json.loads(said(capsys, "convert", tmp_path / "a.pt", target, "--json")) == {"wrote": str(target)}
    assert ol.load(target)["W"].tolist() == [1, 1]


def test_plot_draws_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    with ol.log.CSV(tmp_path / "run.csv") as log:
        for step in range(5):
            log.write(step, {"loss": 1 / (step + 1), "lr": 0.1})
    picture = tmp_path / "run.png"
    assert said(capsys, "plot", tmp_path / "run.csv", picture) == f"wrote {picture}: loss, lr\n"
    assert picture.read_bytes()[:4] == b"\x89PNG"
    found = json.loads(said(capsys, "plot", tmp_path / "run.csv", tmp_path / "run.svg", "--names", "loss", "--json",
                            "--smoothing", "0.9"))
    assert found == {"picture": str(tmp_path / "run.svg"), "drawn": ["loss"]}
    for arguments, message in ((["--names", "los"], "`names` must be of metrics in the log, got los"),
                               (["--smoothing", "1"], "`smoothing` must be >= 0 and < 1, got 1")):
        assert message in said(capsys, "plot", tmp_path / "run.csv", picture, *arguments, code=1)
    assert "No such file" in said(capsys, "plot", tmp_path / "absent.csv", picture, code=1)


def test_a_plot_without_matplotlib_says_what_to_do(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert "plot needs matplotlib; install it with pip install matplotlib" in said(
        capsys, "plot", tmp_path / "a.csv", tmp_path / "a.png", code=1)


@pytest.mark.parametrize("value", [float("nan"), {"a": [float("inf"), 1]}, (Path("x"), None, True)])
def test_json_is_always_json(value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from optimlite.cli.output import say_json

    say_json(value)
    json.loads(capsys.readouterr().out, parse_constant=lambda name: 1 / 0)


def test_plan_counts_bytes_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    def planned(*more: str) -> Any:
        return json.loads(said(capsys, "plan", "--json", "--params", "1e9", "--bandwidth", "1e10", *more))

    found, alone = planned("--ranks", "64"), planned("--ranks", "1")
    assert found["memory"]["state"][0] == pytest.approx(8e9 / 64, rel=1e-3)
    assert found["sent"] == pytest.approx(2 * 4e9 * 63 / 64)
    assert found["seconds"]["step"] > found["seconds"]["parameters to all"] > 4e9 * 63 / 64 / 1e10
    assert alone["sent"] == 0
    assert alone["memory"]["total"][0] == alone["memory"]["total"][1]
    assert planned("--ranks", "4", "--state-dtype", "int8")["memory"]["state"][1] == pytest.approx(2.02e9, rel=1e-2)
    assert "sent in a step, by each rank: 0 bytes" in said(
        capsys, "plan", "--params", "1000", "--ranks", "1", "--bandwidth", "1e9", "--optimizer", "sgd")
    for name, value, message in (("--params", "0", "`--params` must be > 0"), ("--ranks", "0", "`--ranks` must be"),
                                 ("--optimizer", "adamm", "adam")):
        given = {"--params": "10", "--ranks": "2", "--bandwidth": "1", name: value}
        assert message in said(capsys, "plan", *(part for pair in given.items() for part in pair), code=1)
