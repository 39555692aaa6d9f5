"""Draws the site's pictures before the pages are read, where OPTIMLITE_PICTURES=draw asks for it, as `make docs` does.

They are in the repository too, for those who read the pages there:

    OPTIMLITE_PICTURES=draw python docs/site/pictures.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
PICTURES = DOCS / "pictures"
SCRIPTS = {"examples/schedules.py": "schedules", "examples/optimizers.py": "optimizers",
           "examples/convergence.py": "", "examples/fewer_bytes.py": "", "docs/site/speed.py": "",
           "docs/site/hero.py": "", "docs/site/ranks.py": ""}


def draw(app: Any = None) -> None:
    if os.environ.get("OPTIMLITE_PICTURES") != "draw":
        return
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg",
                   "PYTHONPATH": os.pathsep.join([str(DOCS.parent), *sys.path])}
    for script, folder in SCRIPTS.items():
        subprocess.run([sys.executable, DOCS.parent / script, PICTURES / folder], check=True, env=environment,
                       stdout=subprocess.DEVNULL)
    for picture in PICTURES.rglob("*.png"):
        shrink(picture)


def shrink(picture: Path) -> None:
    """To 128 colours, which nobody can tell from all, in a third of the bytes."""
    from PIL import Image  # which matplotlib needs

    with Image.open(picture) as image:
        few = image.convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(picture, optimize=True)


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", draw)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    draw()
