# Writes bits.json, the hashes of the fixed runs: `python tests/support/golden/make_bits.py`, after a change that is
# meant to change bits; it prints whose hash has changed.  After one that adds cases, `make_bits.py Optimizer` runs
# those of this optimizer alone, and all that have no hash.
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]
from support import fixed_runs  # noqa: E402

FILE = HERE / "bits.json"


def main(optimizers: list[str]) -> None:
    before = json.loads(FILE.read_text()) if FILE.exists() else {}
    known = {case.optimizer.__name__ for _, case in fixed_runs.RUNS.values()}
    if unknown := set(optimizers) - known:
        sys.exit(f"no fixed run is of {', '.join(sorted(unknown))}; there are those of {', '.join(sorted(known))}")
    now = {name: before[name] if optimizers and name in before and case.optimizer.__name__ not in optimizers else
           {dtype: fixed_runs.golden(name, dtype) for dtype in ("float32", "float64")}
           for name, (_, case) in fixed_runs.RUNS.items()}
    FILE.write_text(json.dumps(now, indent=1) + "\n")
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            print("removed" if name not in now else "changed" if name in before else "new", name)


if __name__ == "__main__":
    main(sys.argv[1:])
