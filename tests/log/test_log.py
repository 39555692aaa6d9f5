"""Logs: what is written is what is read, by us, by csv and json, and by TensorBoard itself."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.log import tensorboard as events
from support.helpers import run_examples

KINDS: dict[str, Any] = {"run.csv": ol.log.CSV, "run.jsonl": ol.log.JSONL, "runs": ol.log.TensorBoard}
ROWS = [(0, {"loss": 0.5, "lr": 0.125}), (1, {"loss": 0.25, "lr": 0.125, "acc/täst": 1}), (5, {"loss": math.inf}),
        (7, {"loss": -math.inf, "lr": math.nan}), (1 << 40, {"lr": 3})]


def column(rows: Any, name: str) -> list[float]:
    return [float(metrics.get(name, math.nan)) for _, metrics in rows]


def written(kind: str, folder: Path, rows: Any = ROWS) -> Path:
    with KINDS[kind](folder / kind) as log:
        for step, metrics in rows:
            log.write(step, metrics)
    return folder / kind


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read(kind: str, tmp_path: Path) -> None:
    columns = ol.log.read(written(kind, tmp_path))
    assert list(columns) == ["step", "time", "loss", "lr", "acc/täst"]
    assert columns["step"].tolist() == [step for step, _ in ROWS]
    assert (np.diff(columns["time"]) >= 0).all()
    for name in ("loss", "lr", "acc/täst"):
        np.testing.assert_array_equal(columns[name], column(ROWS, name))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_in_its_log(kind: str, tmp_path: Path) -> None:
    again = {"append": True} if kind != "runs" else {}
    written(kind, tmp_path, ROWS[:1])
    for rows in (ROWS[1:3], ROWS[3:]):
        with KINDS[kind](tmp_path / kind, **again) as log:
            for step, metrics in rows:
                log.write(step, metrics)
    columns = ol.log.read(tmp_path / kind)
    assert columns["step"].tolist() == [step for step, _ in ROWS]
    np.testing.assert_array_equal(columns["loss"], column(ROWS, "loss"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_is_what_its_user_means(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with KINDS[kind](f"~/{kind}") as log:
        log.write(0, {"loss": 0.5})
    assert ol.log.read(f"~/{kind}")["loss"] == [0.5]
    assert (tmp_path / kind).exists()
    with pytest.raises(TypeError, match=r"must be a path .a str or a Path., got int"):  # which is standard output
        KINDS[kind](1)


@pytest.mark.parametrize("kind", ["run.csv", "run.jsonl"])
def test_a_log_that_exists_is_not_overwritten(kind: str, tmp_path: Path) -> None:
    path = written(kind, tmp_path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="exists already, and a log isn't overwritten; use append=True, or anoth"):
        KINDS[kind](path)
    assert path.read_bytes() == before
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="is no log of ours: its first columns must be step and time, got a, b"):
        ol.log.CSV(tmp_path / "other.csv", append=True)


def test_other_programs_read_them(tmp_path: Path) -> None:
    with written("run.csv", tmp_path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["loss"] for row in rows] == ["0.5", "0.25", "inf", "-inf", ""]
    lines = written("run.jsonl", tmp_path).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line, parse_constant=lambda name: 1 / 0).get("loss") for line in lines] == [
        0.5, 0.25, "Infinity", "-Infinity", None]


def test_tensorboards_own_reader_reads_the_events(tmp_path: Path) -> None:
    accumulator: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = written("runs", tmp_path)
    reader = accumulator.EventAccumulator(str(folder), size_guidance={accumulator.SCALARS: 0})
    reader.Reload()
    assert set(reader.Tags()["scalars"]) == {"loss", "lr", "acc/täst"}
    for name in ("loss", "lr", "acc/täst"):
        expected = [(step, metrics[name]) for step, metrics in ROWS if name in metrics]
        found = [(event.step, event.value) for event in reader.Scalars(name)]
        assert repr(found) == repr([(step, float(np.float32(value))) for step, value in expected])


def test_the_checksum_is_castagnolis() -> None:
    """RFC 3720, B.4, and the check value of CRC-32C."""
    def unmasked(data: bytes) -> int:
        turned = (events.masked(data) - 0xA282EAD8) & 0xFFFFFFFF
        return (turned >> 17 | turned << 15) & 0xFFFFFFFF

    assert unmasked(b"123456789") == 0xE3069283
    assert unmasked(bytes(32)) == 0x8A9136AA
    assert unmasked(b"\xff" * 32) == 0x62A8AB43
    assert unmasked(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_in_the_file_at_once_and_one_being_written_is_left_out(kind: str, tmp_path: Path) -> None:
    log = KINDS[kind](tmp_path / kind)
    for step, metrics in ROWS[:2]:
        log.write(step, metrics)
        assert ol.log.read(tmp_path / kind)["step"][-1] == step
    log.close()
    path = tmp_path / kind if kind != "runs" else next((tmp_path / kind).iterdir())
    whole = path.read_bytes()
    start = len(whole) - 5
    path.write_bytes(whole[:start])
    assert len(ol.log.read(path)["step"]) in (1, 2 if kind == "run.csv" else 1)       # half a number is one, too


def test_damage_is_named(tmp_path: Path) -> None:
    path = next(written("runs", tmp_path).iterdir())
    whole = bytearray(path.read_bytes())
    for at in (2, 9, 20, len(whole) - 2):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
        with pytest.raises(ValueError, match="is damaged at byte"):
            ol.log.read(path)
    (tmp_path / "a.jsonl").write_text('{"step": 1}\n[3]\n')
    with pytest.raises(ValueError, match=r"a.jsonl, line 2: must be a JSON object of numbers, got \[3\]"):
        ol.log.read(tmp_path / "a.jsonl")
    (tmp_path / "a.csv").write_text("step,time,loss\n1,2,x\n")
    with pytest.raises(ValueError, match=r"a\.csv, line 2: a cell is no number"):
        ol.log.read(tmp_path / "a.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty has no event files"):
        ol.log.read(tmp_path / "empty")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_a_number_and_what_is_not(kind: str, tmp_path: Path) -> None:
    opt = ol.Adam({"w": np.ones(3)})
    opt.watch(1, parameters=True)
    opt.step(grads={"w": np.ones(3)})
    with KINDS[kind](tmp_path / kind) as log:
        log.write(np.int64(0), {"a": np.float32(0.5), "b": np.array([2]), "c": True} | opt.metrics())
        for bad, message in (({"a": "x"}, "metric `a` must be a number, got 'x'"),
                             ({"a": np.ones(2)}, r"metric `a` must be one number, got an array of shape \(2,\)"),
                             ({3: 1.0}, "names of metrics must be plain str, got 3"),
                             ({"a\n": 1.0}, "names of metrics must be plain str")):
            with pytest.raises(TypeError, match=message):
                log.write(1, bad)
    columns = ol.log.read(tmp_path / kind)
    assert columns["step"].tolist() == [0]
    assert (columns["a"][0], columns["b"][0], columns["c"][0]) == (0.5, 2, 1)
    assert columns["update_norm/w"][0] == pytest.approx(3 ** 0.5 * 1e-3)
    with pytest.raises(ValueError, match="the log is closed; write within its `with` block"):
        log.write(2, {})


@pytest.mark.parametrize("kind", [*KINDS.values()])
def test_examples_run(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_examples(kind, ol=ol) > 0


def test_pictures(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    rows = [(step, {"loss": 1 / (step + 1), "lr": 0.1, "g/a": 1.0, "g/b": 2.0}) for step in range(9)]
    path = written("run.csv", tmp_path, rows)
    axs = ol.plot_metrics(path)
    assert [ax.get_ylabel() for ax in axs] == ["loss", "lr"]
    assert list(axs[0].lines[0].get_ydata()) == [1 / (step + 1) for step in range(9)]
    [ax] = ol.plot_metrics(path, "g/*", smoothing=0.5)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["g/a", "g/b"]
    [same] = ol.plot_metrics({"loss": [1.0, math.nan, 3.0]}, axs=ax)
    assert same is ax
    assert list(ax.lines[-1].get_xdata()) == [0, 2]
    with pytest.raises(ValueError, match="`names` must be of metrics in the log, got los; it has loss, lr, g/a, g/b"):
        ol.plot_metrics(path, ["loss", "los"])
    with pytest.raises(ValueError, match="the log has no metrics to draw"):
        ol.plot_metrics({"step": [1]})


def test_a_wider_table_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ol.log.CSV(tmp_path / "a.csv")
    log.write(0, {"loss": 1.0})
    monkeypatch.setattr(os, "replace", lambda *paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        log.write(1, {"loss": 2.0, "more": 3.0})
    log.close()
    assert ol.log.read(tmp_path / "a.csv")["loss"].tolist() == [1]
