"""The compiled modules, and how one is chosen.

runtime         the CPU's level, threads, the row of a kernel table
steps           parameters, the pointer tables of groups, one call for a whole step
vectors         vector kernels over arrays: norms, clipping, closures (imported late)
files           sums of bytes (imported late)
kernels_*       the kernels, for each float type and CPU level
"""
