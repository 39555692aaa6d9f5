import numpy as np

from .runtime import Kernel

class Vector:
    arrays: list[np.ndarray]
    halves: bool
    def __init__(self, arrays: list[np.ndarray]) -> None: ...

class Blocks:
    finished: int
    def __init__(self, sizes: list[int], itemsizes: list[int]) -> None: ...
    def run(
        self, kernels: tuple[Kernel, Kernel], vectors: list[Vector], coefficients: np.ndarray, backwards: bool = False,
        by_array: bool = False,
    ) -> list[float]: ...

def copy_each(strided: list[np.ndarray], contiguous: list[np.ndarray], gathers: bool) -> None: ...
def two_loops(
    sy: np.ndarray, yy: np.ndarray, sg: list[float], yg: list[float], order: list[int], gamma: float
) -> tuple[list[float], list[float]]: ...
