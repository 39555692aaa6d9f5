"""Parameters and state in fewer bytes: what four problems make of it.

    python examples/fewer_bytes.py [folder, examples/output unless given]    draws docs/fewer_bytes.json
    python examples/fewer_bytes.py --measure         makes it anew, and the table in docs/memory.md

AdamW, with a warm-up and a cosine; the model computes in float32 from parameters as they are stored.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np

import optimlite as ol

DOCS = Path(__file__).parents[1] / "docs"
RESULTS, PAGE = DOCS / "fewer_bytes.json", DOCS / "memory.md"
SEEDS = 5
HEADER = "| parameter | master | state | bytes |"
Results = dict[str, dict[str, list[float]]]      # the losses of all seeds, by problem and by form


class Form(NamedTuple):
    """How a parameter and its state are kept."""

    parameter: str = "float32"
    master: str | None = None
    state: str | None = None

    @property
    def name(self) -> str:
        return f"{self.parameter}, {self.state or 'float32'}" + (f", {self.master}" if self.master else "")

    def optimizer(self, model: dict[str, Any], lr: float = 1e-3, seed: int = 0) -> ol.AdamW:
        options: dict[str, Any] = {"master": self.master} if self.master else {}
        return ol.AdamW(model, lr=lr, state_dtype=self.state, seed=seed, **options)

    def stored(self, array: Any) -> Any:
        if self.parameter != "bfloat16":
            return array.astype(self.parameter)
        import ml_dtypes

        return array.astype(ml_dtypes.bfloat16)


FORMS = [Form(), Form(state="bfloat16"), Form(state="int8"),
         *(Form("bfloat16", master, "int8") for master in ("float32", "kahan", "none")),
         *(Form("float16", master, "int8") for master in ("float32", "kahan", "none"))]


def bytes_of(form: Form) -> float:
    """Of a parameter and what is kept beside it, for each element of a large tensor."""
    w = form.stored(np.zeros(1 << 16, np.float32))
    opt = form.optimizer({"w": w})
    opt.step(grads={"w": w.copy()})
    return float((w.nbytes + sum(array.nbytes for array in opt.state["w"].values() if array.ndim)) / w.size)


def loss(problem: str, form: Form, seed: int) -> float:
    """What is left of it at the end."""
    from small_problems import PROBLEMS

    start, steps, lr, batch, loss_and_grads, judge = PROBLEMS[problem](seed)
    model = {key: form.stored(array) for key, array in start.items()}
    opt = form.optimizer(model, lr, seed)
    schedule = ol.lr_scheduler.WarmupCosineLR(opt, steps // 20, steps, start_factor=0.01)
    for _ in range(steps):
        opt.step(grads=loss_and_grads(widened(model), batch())[1])
        schedule.step()
    return judge(widened(model))


def widened(model: dict[str, Any]) -> dict[str, Any]:
    return {key: array.astype(np.float32, copy=False) for key, array in model.items()}


def measured() -> Results:
    from small_problems import PROBLEMS

    results: Results = {problem: {} for problem in PROBLEMS}
    for problem, found in results.items():
        for form in FORMS:
            found[form.name] = [round(loss(problem, form, seed), 6) for seed in range(SEEDS)]
            print(f"{problem:11}{form.name:26}{shown(found[form.name])}", flush=True)
    return results


def shown(losses: list[float]) -> str:
    return f"{np.mean(losses):.4f} ± {np.std(losses):.4f}"


def table(results: Results) -> str:
    rows = [f"{HEADER} {' | '.join(results)} |", "|---" * (4 + len(results)) + "|"]
    for form in FORMS:
        cells = [form.parameter, f'`"{form.master}"`' if form.master else "", form.state or "float32",
                 f"{bytes_of(form):.3g}", *(shown(found[form.name]) for found in results.values())]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def write(page: Path, results: Results) -> None:
    """The table, in the place of the one that has its header."""
    before, _, rest = page.read_text(encoding="utf-8").partition(HEADER)
    behind = rest.partition("\n\n")[2]
    page.write_text(f"{before}{table(results)}\n\n{behind}", encoding="utf-8")


COLOURS = {"float32": "#0b6e69", "bfloat16": "#d9822b", "float16": "#7a4fa3"}      # of parameters
MARKERS = {None: "o", "float32": "s", "kahan": "^", "none": "v"}                    # of masters
STATES = (None, "bfloat16", "int8")
UNITS = {"deblurring": "relative error"}                                            # of losses; others are in nats
GREY = "#555555"


def draw(results: Results, path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(results), figsize=(13, 4), layout="constrained")
    for (problem, found), ax in zip(results.items(), axes, strict=True):
        exact = np.array(found[FORMS[0].name])
        low, high = exact.mean() - exact.std(), exact.mean() + exact.std()
        band = ax.axhspan(low, high, color="#c9ced6", alpha=0.5, linewidth=0)
        beside: Counter[int] = Counter()
        for form in FORMS:
            losses, size = np.array(found[form.name]), bytes_of(form)
            ax.errorbar(size + 0.35 * beside[round(size)], losses.mean(), losses.std(), capsize=2, markersize=7,
                        color=COLOURS[form.parameter], marker=MARKERS[form.master], **filling(form.state))
            beside[round(size)] += 1
        ax.set_title(f"{problem}: {UNITS.get(problem, 'cross-entropy, nats')}", fontsize=11)
        ax.set(xlabel="bytes per parameter, with its state", xlim=(3, 13), xticks=[4, 6, 8, 12])
    axes[0].set_ylabel("loss at the end: mean ± deviation of five seeds", fontsize=9)
    figure.legend(**legend(band), loc="outside right center", fontsize=9)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def legend(band: Any) -> dict[str, Any]:
    """What colours, shapes and fillings mean, each under a heading."""
    from matplotlib.lines import Line2D

    def shown(label: str, marker: str = "o", colour: str = GREY, state: str | None = "int8") -> Any:
        return Line2D([], [], linestyle="none", marker=marker, color=colour, label=label, **filling(state))

    handles = [shown(r"$\bf{parameter}$, by colour", ""), *(shown(name, "o", hue) for name, hue in COLOURS.items()),
               shown(r"$\bf{state}$, by filling", ""), *(shown(state or "float32", state=state) for state in STATES),
               shown(r"$\bf{master}$, by shape", ""),
               *(shown(f'"{master}"' if master else "not needed", marker) for master, marker in MARKERS.items()), band]
    band.set_label("all in float32:\nmean ± deviation")
    return {"handles": handles}


def filling(state: str | None) -> dict[str, Any]:
    """Full for int8, half for bfloat16, white for float32."""
    if state is None:
        return {"markerfacecolor": "white"}
    return {"fillstyle": "left" if state == "bfloat16" else "full", "markerfacecoloralt": "white"}


def main() -> None:
    if sys.argv[1:] == ["--measure"]:
        results = measured()
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write(PAGE, results)
        return
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "examples/output")
    folder.mkdir(parents=True, exist_ok=True)
    draw(json.loads(RESULTS.read_text(encoding="utf-8")), folder / "fewer_bytes.png")


if __name__ == "__main__":
    try:
        import matplotlib
    except ImportError as missing:
        sys.exit(f"this example needs {missing.name}: pip install matplotlib")
    matplotlib.use("Agg")
    main()
