"""The compiled modules, and how one is chosen.

runtime         the CPU's level, threads, the row of a kernel table
parameters      a parameter and its gradient, and where arrays lie
plans           the pointer tables of groups
steps           one call for a whole step
gradients       norms of a step, zeroing, clipping
vectors         vector kernels over arrays: norms, clipping, closures (imported late)
files           sums of bytes (imported late)
kernels_*       the kernels, for each float type and CPU level
"""

try:                                     # before whoever imports one of the others; the second needs NumPy
    from . import parameters as parameters
    from . import runtime as runtime
except ImportError as error:
    from .missing import explain
    raise explain(error) from None
