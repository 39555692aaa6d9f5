"""Results as text, Markdown, JSON, a picture, and a check of the targets."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optimlite
from optimlite.native import dispatch

from . import formats
from .cases import CEILINGS, TARGETS
from .checkpoints import lines as checkpoint_lines
from .kinds import MODULES, TITLES
from .problem import ALL
from .rows import Result, figures

PACKAGES = ("numpy", "torch", "numba")


def machine() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    versions = {name: importlib.metadata.version(name) for name in PACKAGES if importlib.util.find_spec(name)}
    return {"cpu": cpu, "machine": platform.machine(), "system": platform.system(), "threads": ALL,
            "level": dispatch.level, "python": platform.python_version(), "optimlite": optimlite.__version__,
            **versions}


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= scale:
            return f"{seconds / scale:.3g} {unit}" if abs(seconds) < 999.5 * scale else f"{seconds / scale:.0f} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def times(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


# Text ----------------------------------------------------------------------------------------------------------------

def title(result: Result) -> str:
    """What results of one table have in common."""
    if result["kind"] == "step":
        return f"{result['optimizer']}, {result['gradients']} gradients: time of a step, and in times of optimlite's"
    return TITLES[result["kind"]].format(**result)


def header(result: Result) -> str:
    if result["kind"] != "step":
        return ""
    words = [(*name.split(" ", 1), "")[:2] for name in (*result["seconds"], "GB/s", "of limit")]
    return "\n".join(f"{'':11}" + "".join(f"{pair[k]:>15}" for pair in words[:-2])
                     + f"{words[-2][k]:>7}{words[-1][k]:>10}" for k in range(2))


def line(result: Result) -> str:
    seconds = result["seconds"]
    if result["kind"] in ("elementwise", "measured", "gradients", "sparse", "closures", "watched", "bridges", "ranks",
                          *formats.BESIDE):
        row = result["optimizer" if result["kind"] in ("elementwise", "measured") else "case"]
        return f"{row:16}" + "".join(f"  {name} {duration(value)} {times(result['ratio'][name])}"
                                     for name, value in seconds.items())
    if result["kind"] == "checkpoint":
        return "\n".join(checkpoint_lines(result))
    if result["kind"] != "step":
        return "\n".join(f"  {name:42}{duration(value):>12}" for name, value in seconds.items())
    cells = [f"{duration(value)} {times(result['ratio'][name]):>5}" for name, value in seconds.items()]
    return (f"{result['case']:11}" + "".join(f"{cell:>15}" for cell in cells)
            + f"{result['gb_per_s']['optimlite']:7.1f}{seconds['limit'] / seconds['optimlite']:10.2f}")


# Targets -------------------------------------------------------------------------------------------------------------

def targets(results: list[Result]) -> list[dict[str, Any]]:
    """Each target whose row was measured: what it says, the figure, and whether it is met."""
    rows = {(r["case"], r["gradients"]): r for r in results if r["kind"] == "step" and r["optimizer"] == "Adam"}
    found = []
    for target in TARGETS:
        ratio = rows.get((target.case, target.gradients), {}).get("ratio", {}).get(target.over)
        if ratio is not None:
            what = f"Adam, {target.case}, {target.gradients} gradients: {target.over} / optimlite"
            found.append({"what": what, "target": f">= {target.ratio:g}", "measured": ratio,
                          "met": ratio >= target.ratio})
    measured = figures(results)
    for name, most in CEILINGS:
        if name in measured:
            found.append({"what": name, "target": f"<= {duration(most)}", "measured": measured[name],
                          "met": measured[name] <= most})
    return [*found, *itertools.chain.from_iterable(module.targets(results) for module in MODULES)]


def target_lines(checked: list[dict[str, Any]]) -> Iterable[str]:
    yield f"{'target':72}{'':>12}{'measured':>12}"
    for entry in checked:
        value = times(entry["measured"]) if entry["target"].startswith(">") else duration(entry["measured"])
        yield f"{entry['what']:72}{entry['target']:>12}{value:>12}   {'met' if entry['met'] else 'MISSED'}"


# Markdown ------------------------------------------------------------------------------------------------------------

def markdown(results: list[Result]) -> str:
    """The README's table: Adam, with what the others take in times of optimlite's time."""
    rows = [r for r in results if r["kind"] == "step" and r["optimizer"] == "Adam"]
    names = [name for name in (rows[0]["seconds"] if rows else ()) if name not in ("optimlite", "limit")]
    lines = ["| parameters | optimlite | " + " | ".join(names) + " | GB/s | of the limit |",
             "|---|---|" + "---|" * (len(names) + 2)]
    for r in rows:
        case = f"{r['case']}, fresh gradients" if r["gradients"] == "fresh" else r["case"]
        cells = " | ".join(f"{duration(r['seconds'][name])} ({times(r['ratio'][name])})" for name in names)
        lines.append(f"| {case} | **{duration(r['seconds']['optimlite'])}** | {cells} | "
                     f"{r['gb_per_s']['optimlite']:.0f} | {r['seconds']['limit'] / r['seconds']['optimlite']:.2f} |")
    about = machine()
    versions = ", ".join(f"{name} {about[name]}" for name in PACKAGES if name in about)
    return "\n".join([*lines, "", f"{about['cpu']}, {about['threads']} threads, {about['level']} kernels; {versions}."])


# Picture -------------------------------------------------------------------------------------------------------------

def plot(results: list[Result], path: str) -> None:
    """Times of a step with Adam and persistent gradients, one group of bars for each case."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("--plot needs matplotlib; install it with `pip install matplotlib`") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [r for r in results if r["kind"] == "step" and r["gradients"] == "persistent"]
    rows = [r for r in rows if r["optimizer"] == "Adam"] or rows[:1]
    if not rows:
        raise SystemExit("--plot shows steps with persistent gradients, and none was measured")
    names = [name for name in rows[0]["seconds"] if name != "limit"]
    figure, axes = pyplot.subplots(figsize=(3.5 + 1.7 * len(rows), 4.5), layout="constrained")
    width = 0.85 / len(names)
    for k, name in enumerate(names):
        at = [x + (k - (len(names) - 1) / 2) * width for x in range(len(rows))]
        color = "black" if name == "optimlite" else None
        axes.bar(at, [1e3 * r["seconds"][name] for r in rows], width, label=name, color=color)
    for x, r in enumerate(rows):
        axes.hlines(1e3 * r["seconds"]["limit"], x - 0.45, x + 0.45, color="red", linestyle="dotted",
                    label="" if x else "limit of bandwidth")
    axes.set_yscale("log")
    axes.set_xticks(range(len(rows)), [r["case"] for r in rows])
    axes.set_ylabel("ms per step")
    axes.set_title(f"One step of {rows[0]['optimizer']}, float32 (lower is better)")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
