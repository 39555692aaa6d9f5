"""A progress bar for methods that iterate within one call: a callback that shows iterations and the loss."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from ..checks import checked, optional_count, shown

EVERY = 0.2                      # seconds between two lines of our own


class Progress:
    """A callback of `minimize`, LBFGS and ConjugateGradient that shows how they go: tqdm's bar, else a line of its own.

    total: the iterations that there will be at most, such as `max_iter`; None where nobody knows.
    file: where to draw; stderr unless given.

    Raises ValueError for a `total` below 1, TypeError for one that isn't a number; and TypeError when it is called with
    what is no result.

        >>> with ol.Progress(total=100) as progress:
        ...     result = ol.minimize(lambda x: (float(x @ x), 2 * x), np.ones(3), callback=progress)
        >>> progress.iterations == result.nit
        True
    """

    @checked
    def __init__(self, total: int | None = None, file: TextIO | None = None) -> None:
        self.total: int | None = optional_count("total", total)
        self.iterations = 0
        self._file = file or sys.stderr
        self._drawn = 0.0
        self._loss = float("nan")
        try:
            from tqdm import tqdm
        except ImportError:
            self._bar: Any = None
        else:
            self._bar = tqdm(total=self.total, file=self._file, unit="it")

    def __call__(self, intermediate_result: Any) -> None:
        """Takes an iteration's result: one with `loss`, with `cost` (`least_squares`), or with `fun` (`minimize`)."""
        known = [name for name in ("loss", "cost", "fun") if hasattr(intermediate_result, name)]
        if not known:
            raise TypeError(f"`Progress` must be called with an iteration's result, which has `loss`, `cost` or `fun`, "
                            f"got {shown(intermediate_result)}; give it as `callback` itself")
        self.iterations += 1
        self._loss = float(getattr(intermediate_result, known[0]))
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {self._loss:.6g}", refresh=False)
            self._bar.update()
        elif time.monotonic() - self._drawn > EVERY:
            self._drawn = time.monotonic()
            self._line()

    def _line(self, end: str = "") -> None:
        of = f"/{self.total}" if self.total else ""
        self._file.write(f"\r{self.iterations}{of} iterations, loss {self._loss:.6g}   {end}")
        self._file.flush()

    def close(self) -> None:
        """Ends the bar; the end of a `with` block does."""
        if self._bar is not None:
            self._bar.close()
        elif self.iterations:
            self._line("\n")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
