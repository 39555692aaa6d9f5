"""Applications of the operator by `least_squares`, beside L-BFGS: `python -m benchmarks.matrix_free`.

On inverse problems.  Counted is each application, forwards, tangent or adjoint, until the cost is so close to the
least one.  Where an iteration ends rests on the last bits of sums, which differ between processors: each count is the
median over the data and `--others` (4) more, moved by 1e-12 of themselves, beside the least and the most.  With
`--write` the table in docs/least_squares.md is made anew.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median_high
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples")]
from travel_time import Survey, counts  # noqa: E402

from support.inverse import Blur, applications  # noqa: E402


def deblurring(data: Callable[[np.ndarray], np.ndarray], within: float) -> tuple[int, int]:
    blur = Blur()
    blur.data = data(blur.data)
    return applications(blur, within)


def travel_times(data: Callable[[np.ndarray], np.ndarray], within: float, *survey: Any) -> tuple[int, int]:
    made = Survey(*survey)
    made.times = data(made.times)
    return counts(made, np.zeros_like(made.truth), within)[:2]


PROBLEMS: list[tuple[str, Callable[..., tuple[int, int]], tuple[Any, ...], tuple[float, ...]]] = [
    ("deblurring, 64 × 64, linear", deblurring, (), (1e-2, 1e-4, 1e-6)),
    ("travel times, 48 × 48, `examples/travel_time.py`", travel_times, (48, 16), (1e-2, 1e-3, 1e-4)),
    ("the same, 64 × 64, 24 stations, 40 times as smooth", travel_times, (64, 24, 20.0), (1e-2, 1e-6))]


def moved(rng: np.random.Generator, size: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda data: data * (1.0 + size * rng.uniform(-1.0, 1.0, data.shape))


def table(others: int) -> str:
    lines = ["| problem | within | least_squares | L-BFGS |", "|---|---|---|---|"]
    for name, solve, given, aims in PROBLEMS:
        for within in aims:
            rng = np.random.default_rng(0)
            runs = [solve(moved(rng, 1e-12 * bool(k)), within, *given) for k in range(others + 1)]
            cells = [f"{median_high(n):,} ({min(n):,} to {max(n):,})" for n in zip(*runs, strict=True)]
            lines.append(f"| {name} | {within:.0e} | {cells[0]} | {cells[1]} |".replace("e-0", "e-"))
            name = ""
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matrix_free", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/least_squares.md")
    parser.add_argument("--others", type=int, default=4)
    options = parser.parse_args()
    made = table(options.others)
    print(made)
    if options.write:
        page = ROOT / "docs" / "least_squares.md"
        page.write_text(re.sub(r"(<!-- without a matrix -->\n).*?(<!-- end -->)",
                               lambda found: f"{found[1]}{made}\n{found[2]}", page.read_text(), flags=re.S))


if __name__ == "__main__":
    main()
