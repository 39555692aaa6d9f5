# Writes bits.json, the hashes of the fixed runs: `python tests/support/golden/make_bits.py`, after a change that is
# meant to change bits or adds a case; it prints whose hash has changed.
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]
from support import fixed_runs  # noqa: E402

FILE = HERE / "bits.json"


def main() -> None:
    before = json.loads(FILE.read_text()) if FILE.exists() else {}
    now = {name: {dtype: fixed_runs.golden(name, dtype) for dtype in ("float32", "float64")}
           for name in fixed_runs.RUNS}
    FILE.write_text(json.dumps(now, indent=1) + "\n")
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            print("removed" if name not in now else "changed" if name in before else "new", name)


if __name__ == "__main__":
    main()
