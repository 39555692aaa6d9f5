"""Every rule again in plain NumPy: the specification that anybody can read, the tests' oracle, the baseline of speed.

`step(optimizer)` does what `optimizer.step()` does, bit for bit, without a compiled kernel; `RULES` has the formulas.
"""

from .rules import RULES
from .step import clip_coefficient, step
from .stepped import finished
from .sums import grad_norm, sum_in_lanes, sum_squares

__all__ = ["RULES", "clip_coefficient", "finished", "grad_norm", "step", "sum_in_lanes", "sum_squares"]
