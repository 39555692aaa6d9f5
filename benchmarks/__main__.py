"""Command line of the benchmarks: chooses rows, runs them one after the other, reports."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from . import elementwise, kinds, measured, report
from .cases import CASES, WORKS
from .rows import Row, figures, overheads, steps

QUICK = {case.name: case.quick for case in CASES} | {"overhead": 5, "import": 3} | kinds.QUICK
OPTIMIZERS = [work.name for work in (*WORKS, *elementwise.WORKS, *measured.WORKS)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="optimlite against NumPy, torch, Numba "
                                     "and the limit of memory bandwidth, interleaved in one process.")
    add = parser.add_argument
    add("--quick", action="store_true", help="few rounds, without the largest cases")
    add("--case", action="append", choices=list(QUICK), metavar="NAME", help=f"only this one: {', '.join(QUICK)}")
    add("--optimizer", action="append", choices=OPTIMIZERS, metavar="NAME",
        help=f"only this one: {'; '.join(OPTIMIZERS)}")
    add("--rounds", type=positive, metavar="N", help="rounds of measurement; by default as many as the case has")
    add("--json", metavar="FILE", help="write every figure, with the samples of each round")
    add("--plot", metavar="FILE.png", help="draw the times of a step")
    add("--markdown", action="store_true", help="print the README's table")
    add("--targets", action="store_true", help="print whether the targets are met; exit with 1 if one is missed")
    return parser.parse_args()


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer >= 1, got '{text}'")
    return int(text)


def chosen(options: argparse.Namespace) -> Iterator[Row]:
    for row in itertools.chain(steps(), overheads(), *(module.rows() for module in kinds.MODULES)):
        rounds = QUICK[row.case] if options.quick else row.rounds
        if options.case:
            rounds = row.case in options.case and (rounds or row.rounds)
        if options.optimizer and row.about.get("optimizer", options.optimizer[0]) not in options.optimizer:
            continue
        if rounds:
            yield replace(row, rounds=options.rounds or rounds)


def main() -> int:
    options = arguments()
    results: list[dict[str, Any]] = []
    about = report.machine()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    for row in chosen(options):
        result = row.run()
        if not results or report.title(result) != report.title(results[-1]):
            print(f"\n{report.title(result)}\n{report.header(result)}".rstrip())
        print(report.line(result), flush=True)
        results.append(result)
    checked = report.targets(results)
    if options.targets:
        print("", *report.target_lines(checked), sep="\n")
    if options.markdown:
        print("", report.markdown(results), sep="\n")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": about, "rows": results, "figures": figures(results), "targets": checked}, file,
                      indent=1)
    if options.plot:
        report.plot(results, options.plot)
    return 1 if options.targets and not all(entry["met"] for entry in checked) else 0


if __name__ == "__main__":
    raise SystemExit(main())
