"""The performance page's tables and pictures, from `docs/measured.json`, so that no figure stands twice.

    python -m benchmarks --optimizer Adam --json full.json
    python docs/site/speed.py --record full.json               keeps the medians, and of the old record what is not new
    python docs/site/speed.py docs/pictures                     draws speed.png and threads.png
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

MEASURED = Path(__file__).parents[1] / "measured.json"
KEPT = ("kind", "optimizer", "gradients", "case", "tensors", "elements", "seconds", "ratio", "gb_per_s")
NAMES = {"500 x 32": "500 tensors of 32", "200 x 1,000": "200 tensors of 1,000", "MLP": "MLP, 6 tensors, 109 k",
         "1 M": "one tensor of 1 M", "ResNet-50": "ResNet-50, 161 tensors, 25.6 M", "50 M": "one tensor of 50 M",
         "GPT-2": "GPT-2, 148 tensors, 124 M"}
LINES = re.compile(r"(,|tensors?(?= of)) ")                     # where names in a picture are broken
THREADS = {"torch fused 1 thread": "#dba4ac", "torch fused": "#b23a48", "optimlite 1 thread": "#8fc1be",
           "optimlite": "#0b6e69"}
SHOWN = {"NumPy in-place": "#d9822b", "Numba": "#7a4fa3", "torch foreach": "#2a6f97", "torch fused": "#b23a48"}


def rows(gradients: str) -> list[dict[str, Any]]:
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))["rows"]
    found = [row for row in measured if row["gradients"] == gradients and row["optimizer"] == "Adam"]
    return sorted(found, key=lambda row: list(NAMES).index(row["case"]))


def record(source: Path) -> None:
    full = json.loads(source.read_text(encoding="utf-8"))
    kept = [{key: row[key] for key in KEPT if key in row} for row in full["rows"] if row["kind"] == "step"]
    new = {place(row) for row in kept}
    old = json.loads(MEASURED.read_text(encoding="utf-8"))
    if old["machine"] == full["machine"]:
        kept = [row for row in old["rows"] if place(row) not in new] + kept
    MEASURED.write_text(json.dumps({"machine": full["machine"], "rows": kept}, indent=1) + "\n", encoding="utf-8")


def place(row: dict[str, Any]) -> tuple[str, ...]:
    return row["optimizer"], row["gradients"], row["case"]


def duration(seconds: float) -> str:
    unit, scale = next((each for each in (("s", 1.0), ("ms", 1e-3)) if seconds >= each[1]), ("µs", 1e-6))
    return f"{seconds / scale:.3g} {unit}"


def table(gradients: str) -> list[str]:
    """Markdown: optimlite's time of a step, and the others' in times of it."""
    found, passed = rows(gradients), "optimlite grads="
    others = [name for name in SHOWN if name in found[0]["ratio"]]
    large = any(row["elements"] > 1e7 for row in found)         # which don't fit into the cache
    both = passed in found[0]["seconds"]
    heads = ["parameters", "optimlite", *(["with `step(grads=…)`"] if both else []), *others,
             *(["of the limit of bandwidth"] if large else [])]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for row in found:
        ratios = [f"{value:.3g}×" if (value := row["ratio"].get(name)) is not None else "" for name in others]
        share = row["seconds"]["limit"] / row["seconds"]["optimlite"] if row["elements"] > 1e7 else None
        cells = [NAMES.get(row["case"], row["case"]), f"**{duration(row['seconds']['optimlite'])}**",
                 *([f"**{duration(row['seconds'][passed])}**"] if both else []), *ratios,
                 *([f"{share:.2f}" if share else ""] if large else [])]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def machine() -> str:
    about = json.loads(MEASURED.read_text(encoding="utf-8"))["machine"]
    versions = ", ".join(f"{name} {about[name]}" for name in ("numpy", "torch", "numba") if name in about)
    return f"{about['cpu']}, {about['threads']} threads, kernels of level {about['level']}; {versions}."


def bars(ax: Any, found: list[dict[str, Any]], heights: dict[str, list[float]], colours: dict[str, str]) -> None:
    """A group of bars for each model, a bar for each key of `heights`."""
    width = 0.8 / len(heights)
    for k, (name, values) in enumerate(heights.items()):
        at = [x + (k - (len(heights) - 1) / 2) * width for x in range(len(found))]
        ax.bar(at, values, width, label=name, color=colours[name])
    ax.set_xticks(range(len(found)), [LINES.sub(r"\1\n", NAMES.get(row["case"], row["case"])) for row in found])
    ax.tick_params(labelsize=9)


def draw_times(ax: Any, found: list[dict[str, Any]]) -> None:
    others = [name for name in SHOWN if name in found[0]["ratio"]]
    bars(ax, found, {name: [row["ratio"].get(name, float("nan")) for row in found] for name in others}, SHOWN)
    ax.axhline(1, color="#0b6e69", linewidth=2, label="optimlite")
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:g}×")
    ax.set(ylabel="time of a step, optimlite's = 1", title="Adam, float32, 2 threads: lower is better")
    ax.legend(ncols=3)


def draw_threads(ax: Any, found: list[dict[str, Any]]) -> None:
    names = {name: f"{name}, 2 threads" if "thread" not in name else name.replace(" 1", ", 1") for name in THREADS}
    bars(ax, found, {names[name]: [row["elements"] / row["seconds"][name] / 1e9 for row in found] for name in THREADS},
         {names[name]: colour for name, colour in THREADS.items()})
    ax.set(ylabel="elements stepped per nanosecond", title="Adam, float32, one thread and two: higher is better")
    ax.legend(ncols=2)


def draw(folder: Path) -> None:
    from matplotlib import pyplot

    for name, draw_one in (("speed.png", draw_times), ("threads.png", draw_threads)):
        figure, ax = pyplot.subplots(figsize=(9, 4.4), layout="constrained")
        draw_one(ax, rows("persistent"))
        figure.savefig(folder / name, dpi=110)
        pyplot.close(figure)


def setup(app: Any) -> dict[str, Any]:
    from sphinx.util.docutils import SphinxDirective

    class StepTimes(SphinxDirective):
        required_arguments = 1

        def run(self) -> list[Any]:
            self.env.note_dependency(str(MEASURED))
            return self.parse_text_to_nodes("\n".join([*table(self.arguments[0]), "", machine()]))

    app.add_directive("step-times", StepTimes)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    if sys.argv[1] == "--record":
        record(Path(sys.argv[2]))
    else:
        draw(Path(sys.argv[1]))
