"""Makes of a wheel one that could be published: the platform's tag, fewer bytes, and what the checkers say of it.

`make package` and `make wheels` run it. On Linux the tag is auditwheel's: the oldest glibc that has what the modules
ask for, so it is as old as the system on which they were linked allows.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from recompress import recompress

BUDGET = 1_000_000               # bytes


def tool(name: str, *arguments: str | Path) -> str:
    """Runs a tool that is installed beside this Python; the first that finds fault ends all."""
    command = [str(Path(sys.executable).with_name(name)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": str(Path(sys.executable).parent)})
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def tagged(wheel: Path) -> Path:
    """The wheel with the tag that auditwheel gives it, in the place of the one that was built."""
    if "-linux_" not in wheel.name:
        return wheel
    with tempfile.TemporaryDirectory() as folder:
        tool("auditwheel", "repair", "--wheel-dir", folder, wheel)
        [repaired] = Path(folder).glob("*.whl")
        wheel.unlink()
        return Path(shutil.move(repaired, wheel.parent))


def finish(wheel: Path) -> None:
    wheel = tagged(wheel)
    recompress(wheel)
    if wheel.stat().st_size >= BUDGET:
        sys.exit(f"{wheel.name} must have less than {BUDGET:,} bytes, and has {wheel.stat().st_size:,}")
    tool("check-wheel-contents", "--ignore", "W004", wheel)      # PyInstaller's hook, which is no module
    tool("twine", "check", "--strict", wheel)
    if "linux" in wheel.name:
        said = " ".join(tool("auditwheel", "show", wheel).split())
        tag = re.search(r'consistent with the following platform tag: "(\w+)"', said)
        if tag is None or tag[1] not in wheel.name:
            sys.exit(f"{wheel.name} has another tag than auditwheel finds: {said}")
        print(f"{wheel.name}: {tag[1]} by auditwheel")


if __name__ == "__main__":
    for path in sys.argv[1:]:
        finish(Path(path))
