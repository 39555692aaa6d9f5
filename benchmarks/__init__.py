"""Benchmarks of optimlite against NumPy, torch, Numba and the limit of memory bandwidth: `python -m benchmarks`."""
