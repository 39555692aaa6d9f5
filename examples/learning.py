"""Every optimizer learns handwritten digits, scikit-learn's 1,797 and 5,000 of MNIST, at the best of its rates.

    python examples/learning.py [optimizer ...] [--data digits] [--data MNIST] [--page docs/which_optimizer.md]

prints how many images each recognises that it hasn't learnt from, and writes that into the tables of a page.

Images are shuffled and cut into fifths.  The first chooses the rate: of RATES, upwards until accuracy falls by more
than 5 points, those three which recognise most of it after learning from the rest run a second time, with other
weights and batches, and the best mean wins.  Each other fifth is then recognised by SEEDS networks that learnt from
the remaining four: a share of 1,437 digits, or of 4,000 images of MNIST.

Rates warm up during a twentieth of the steps and fall by a cosine, but Schedule-Free's, whose warm-up is its own, DoG's
and Rprop's.  What finds its rate has none.  Closures, and Rprop, whose rate is its largest step, see all images in each
of EVALUATIONS; for the closures, a penalty l2 / 2 · |weights|² is searched in place of a rate.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # waking threads costs more than these products do
import numpy as np
from images import Array, Arrays, images, loss_and_grads, network, scores

import optimlite as ol

RATES = [10.0 ** (k / 2) for k in range(-8, 3)]  # 0.0001 to 10
PENALTIES = [1e-4, 1e-3, 1e-2]
PARTS, SEEDS, FINALISTS, HIDDEN, EVALUATIONS = 5, 2, 3, 64, 300
EPOCHS = {"digits": 30, "MNIST": 15}
BATCH = {"digits": 32, "MNIST": 64}

FINDS_ITS_RATE = ("Prodigy", "DAdaptAdam", "DoG", "LDoG")
CONSTANT = ("DoG", "LDoG", "ScheduleFreeAdamW", "ScheduleFreeRAdam", "ScheduleFreeSGD")
BY_MATRICES = ("Muon", "NorMuon")
OPTIONS: dict[str, dict[str, Any]] = {  # beside the defaults
    "SGD": {"momentum": 0.9},
    "ScheduleFreeSGD": {"warmup_steps": 50}, "ScheduleFreeAdamW": {"warmup_steps": 50},
    "ScheduleFreeRAdam": {"betas": (0.9, 0.99)},
    "SOAP": {"max_precond_dim": 128},  # no bases for 784 pixels
    "Shampoo": {"betas": (0.9, 0.999), "eps": 1e-8, "grafting": "adam", "max_preconditioner_dim": 128,
                "precondition_frequency": 10},
}
WRAPPED: dict[str, Callable[[Any, float], Any]] = {
    "Lookahead": lambda model, lr: ol.Lookahead(ol.AdamW(model, lr=lr)),
    "SAM": lambda model, lr: ol.SAM(ol.AdamW(model, lr=lr)),
}


class Split(NamedTuple):
    """What is learnt from, and what is recognised."""

    x: Array
    labels: Array
    other_x: Array
    other_labels: Array


def split(data: str, part: int) -> Split:
    x, labels = images(data)
    other = np.arange(len(labels)) % PARTS == part
    return Split(x[~other], labels[~other], x[other], labels[other])


def made(name: str, model: Arrays, lr: float) -> Any:
    if name in WRAPPED:
        return WRAPPED[name](model, lr)
    if name == "Rprop":
        return ol.Rprop(model, lr=lr, step_sizes=(1e-6, lr))
    if name in BY_MATRICES:  # biases go to the AdamW in it
        groups = [{"params": {key: p for key, p in model.items() if p.ndim == 2}},
                  {"params": {key: p for key, p in model.items() if p.ndim == 1}, "use_muon": False,
                   "lr": min(lr, 3e-3)}]
        return ol.create(name, groups, lr=lr)
    return ol.create(name, model, lr=lr, **OPTIONS.get(name, {}))


def by_rows(grads: Arrays) -> dict[str, ol.SparseGrad]:
    """Of pixels that are black in a whole batch, and of units that are silent, the rows are zero."""
    rows = {key: np.flatnonzero(g.reshape(len(g), -1).any(axis=1)) for key, g in grads.items()}
    return {key: ol.SparseGrad(rows[key], g[rows[key]]) for key, g in grads.items()}


def minimized(name: str, model: Arrays, l2: float, data: Split) -> None:
    """By a method that evaluates all images several times a step."""
    def closure() -> tuple[float, Arrays]:
        loss, grads = loss_and_grads(model, data.x, data.labels)
        for key in ("W1", "W2"):
            loss += l2 / 2 * float(np.vdot(model[key], model[key]))
            grads[key] += np.float32(l2) * model[key]
        return loss, grads

    options = {} if name == "NewtonCG" else {"line_search_fn": "strong_wolfe"}
    ol.create(name, model, max_iter=EVALUATIONS, max_eval=EVALUATIONS, **options).step(closure)


def learnt(name: str, rate: float, kind: str, data: Split, seed: int) -> Arrays:
    """A network that has learnt `data`, a split of the images called `kind`."""
    model, rng = network(data.x.shape[1], HIDDEN, seed), np.random.default_rng(100 + seed)
    if name in ol.available("closure"):
        minimized(name, model, rate, data)
        return model
    optimizer = made(name, model, rate)
    count = 1 if name == "Rprop" else -(-len(data.x) // BATCH[kind])
    epochs = EVALUATIONS if name == "Rprop" else EPOCHS[kind]
    followers: list[Callable[[], object]] = []  # called after each step
    if name not in CONSTANT and name != "Rprop":
        steps, stepped = epochs * count, getattr(optimizer, "optimizer", optimizer)
        followers = [ol.lr_scheduler.WarmupCosineLR(stepped, steps // 20, steps, start_factor=0.01).step]
    average = None
    if name in ("DoG", "LDoG"):
        average = ol.Average(model, function=lambda a, p, n: a + (p - a) * 9 / (n + 9))
        followers = [average.update]
    for _ in range(epochs):
        for batch in np.array_split(rng.permutation(len(data.x)), count):
            def closure(batch: Array = batch) -> tuple[float, Any]:
                loss, grads = loss_and_grads(model, data.x[batch], data.labels[batch])
                return loss, by_rows(grads) if name == "SparseAdam" else grads

            optimizer.step(closure)
            for follow in followers:
                follow()
    evaluated = average or (optimizer if name.startswith("ScheduleFree") else None)
    if evaluated is None:
        return model
    with evaluated.swapped():
        return {key: p.copy() for key, p in model.items()}


def recognised(name: str, rate: float, kind: str, part: int, seed: int) -> float:
    """The share of the images of a fifth, by a network that has learnt the others."""
    data = split(kind, part)
    with np.errstate(all="ignore"):  # at rates that are too large
        model = learnt(name, rate, kind, data, seed)
        return float((scores(model, data.other_x).argmax(axis=1) == data.other_labels).mean())


def best_rate(name: str, kind: str) -> float:
    if name in FINDS_ITS_RATE:
        return 1.0
    found: dict[float, float] = {}
    for rate in PENALTIES if name in ol.available("closure") else RATES:
        found[rate] = recognised(name, rate, kind, 0, seed=0)
        if found[rate] < max(found.values()) - 0.05:
            break
    finalists = sorted(found, key=lambda rate: -found[rate])[:FINALISTS]
    return max(finalists, key=lambda rate: found[rate] + recognised(name, rate, kind, 0, seed=1))


def measured(name: str, kind: str) -> tuple[float, float]:
    """The rate, and the share that is recognised at it."""
    rate = best_rate(name, kind)
    return rate, float(np.mean([recognised(name, rate, kind, part, seed)
                                for part in range(1, PARTS) for seed in range(10 * part, 10 * part + SEEDS)]))


def with_cell(line: str, column: int, text: str) -> str:
    cells = line.split("|")
    cells[column] = f" {text} "
    return "|".join(cells)


def write(page: Path, kind: str, name: str, share: float) -> None:
    """Into the column called `kind`, wherever a table of the page has a row for `name`."""
    lines, column = page.read_text(encoding="utf-8").splitlines(), 0
    for k, line in enumerate(lines):
        if not line.startswith("|"):
            column = 0                           # of no table
        elif kind in (header := [cell.strip() for cell in line.split("|")]):
            column = header.index(kind)
        elif column and line.startswith((f"| `{name}` ", f"| `{name}(")):
            lines[k] = with_cell(line, column, f"{share:.1%}".replace("%", " %"))
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="every optimizer on handwritten digits")
    names = [*ol.available(), *WRAPPED]
    parser.add_argument("optimizer", nargs="*", metavar="optimizer", help="its name; all of them unless given")
    parser.add_argument("--data", action="append", choices=list(EPOCHS), help="both unless given")
    parser.add_argument("--page", type=Path, help="a page whose tables get the figures")
    options = parser.parse_args()
    for kind in options.data or EPOCHS:
        for name in options.optimizer or names:
            rate, share = measured(name, kind)
            print(f"{kind:8}{name:20} rate {rate:8.2g}  recognised {share:.2%}", flush=True)
            if options.page:
                write(options.page, kind, name, share)


if __name__ == "__main__":
    main()
