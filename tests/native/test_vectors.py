"""Vector algebra: the right numbers, and the same bits on every level, for every thread count, size and alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.native import dispatch
from optimlite.native.vectors import Blocks, Vector, two_loops
from support.bits import THREADS, TYPES, Guarded
from support.cases import SIZES

ROWS = 7


def expected(name: str, v: list[np.ndarray], c: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    """Every kernel in NumPy: what it writes, and its sums and maxima, in double."""
    real = v[0].dtype.type
    a = [x.astype(np.float64) for x in v]

    def most(x: np.ndarray) -> float:
        return float(abs(x).max(initial=0))

    match name:
        case "observe":
            g = real(c[0]) * v[1]
            w = g.astype(np.float64)
            return [g], [w @ a[2], most(w)]
        case "copy":
            return [v[1]], []
        case "move":
            return [v[1] + real(c[0]) * v[2]], []
        case "move_within":
            return [np.minimum(np.maximum(v[1] + real(c[0]) * v[2], v[3]), v[4])], []
        case "slope_within":
            still = ~(((v[1] < 0) & (v[2] <= v[3])) | ((v[1] > 0) & (v[2] >= v[4])))
            return [], [a[0] @ (a[1] * still)]
        case "free_gradient":
            f = np.where(((v[1] > 0) & (v[2] <= v[3])) | ((v[1] < 0) & (v[2] >= v[4])), real(0), v[1])
            return [f], [most(np.minimum(np.maximum(v[1], v[2] - v[4]), v[2] - v[3]))]
        case "turn_inward":
            d, g, x, low, high = v
            d = np.where(((x <= low) & ((g > 0) | (d < 0))) | ((x >= high) & ((g < 0) | (d > 0))), real(0), d)
            return [d], [a[1] @ d.astype(np.float64), most(d)]
        case "renew":
            s = real(c[0]) * v[2]
            y = np.where((s == 0) & bool(c[1]), real(0), v[3] - v[4])
            s64, y64 = s.astype(np.float64), y.astype(np.float64)
            return [s, y], [s64 @ s64, *(row @ x for row in a[6:] for x in (a[5], y64))]
        case "compare":
            g = real(c[0]) * v[1]
            g64 = g.astype(np.float64)
            return [g], [g64 @ g64, g64 @ a[2], g64 @ a[3], most(g)]
        case "depart":
            return [v[0] + real(c[0]) * v[2], v[0]], []
        case "launch":
            d = real(c[0]) * v[2] - v[3]
            d64 = d.astype(np.float64)
            return [v[0] + real(c[1]) * d, v[0], d], [d64 @ d64, d64 @ a[3], most(d)]
        case "gram":
            return [], [row @ x for row in a[2:] for x in a[:2]]
        case "combine":
            d = real(c[0]) * v[1]
            for k, row in enumerate(v[2:], 1):
                d = d + real(c[k]) * row
            return [d], [a[1] @ d.astype(np.float64), most(d)]
    raise AssertionError(name)


# Those of a history in 16 bits, which tests/closures/test_history.py compares with the others
OF_HALVES = {"gram_halves", "renew_halves", "combine_halves", "widen"}
KERNELS: dict[str, tuple[int, list[float]]] = {       # vectors, coefficients
    "observe": (3, [-0.7]), "compare": (4, [-0.7]), "copy": (2, []), "move": (3, [0.3]), "depart": (3, [0.3]),
    "launch": (4, [0.4, 0.3]), "move_within": (5, [0.3]), "slope_within": (5, []),
    "free_gradient": (5, []), "turn_inward": (5, []), "gram": (2 + ROWS, []),
    "renew": (6 + ROWS, [0.3, 1.0]), "combine": (2 + ROWS, [-0.5, *np.linspace(-1, 1, ROWS)]),
}


def vectors(name: str, count: int, sizes: list[int], dtype: Any) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(0)
    made = [[rng.standard_normal(size).round(1).astype(dtype) for size in sizes] for _ in range(count)]
    if count == 5:                               # a box, with elements at both bounds
        point = {"move_within": 1, "slope_within": 2}.get(name, 2)
        for x, low, high in zip(made[point], made[3], made[4], strict=True):
            low[...], high[...] = np.minimum(low, high), np.maximum(low, high)
            x[...] = np.clip(x, low, high)
    if name == "renew":
        for x in made[2]:
            x[::3] = 0
    return made


def test_every_kernel_is_here() -> None:
    table = dispatch.kernels(np.dtype(np.float32), dispatch.level)
    simple = {"dot", "sum_squares", "sum_abs", "max_abs", "scale", "limit", "add"}       # clipping's, tested there
    here = [name for name, kernel in table.items() if kernel.kind == "vector" and name not in simple | OF_HALVES]
    assert here == list(KERNELS)
    assert set(table) > OF_HALVES


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", KERNELS)
def test_values_and_bits(name: str, dtype: type, level: str, threads: None) -> None:
    count, c = KERNELS[name]
    itemsize = np.dtype(dtype).itemsize
    outcomes = []
    for workers in THREADS:
        ol.set_num_threads(workers)
        made = [[Guarded(x) for x in vector] for vector in vectors(name, count, SIZES, dtype)]
        before = [[item.array.copy() for item in vector] for vector in made]
        pieces = Blocks(SIZES, [itemsize] * len(SIZES))
        found = pieces.run(dispatch.vector_kernels(name, level),
                           [Vector([item.array for item in vector]) for vector in made],
                           np.array([c]), workers == 2)
        results = []
        for k in range(len(SIZES)):
            written, numbers = expected(name, [vector[k] for vector in before], np.array(c))
            results.append(numbers)
            for i, vector in enumerate(made):
                wanted = written[i] if i < len(written) else before[i][k]
                assert np.array_equal(vector[k].array, wanted), f"vector {i} of size {SIZES[k]}"
                assert vector[k].intact()
        maxima = int(name in ("observe", "compare", "launch", "free_gradient", "turn_inward", "combine"))
        for j, value in enumerate(found):
            column = [numbers[j] for numbers in results]
            wanted = max(column) if j >= len(found) - maxima else sum(column)
            assert value == pytest.approx(wanted, rel=1e-12, abs=1e-9)
        outcomes.append((found, [[item.array.tobytes() for item in vector] for vector in made]))
    ol.set_num_threads(1)
    made = vectors(name, count, SIZES, dtype)
    base = Blocks(SIZES, [itemsize] * len(SIZES)).run(
        dispatch.vector_kernels(name, dispatch.available()[0]), [Vector(vector) for vector in made], np.array([c]))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert base == outcomes[0][0]
    assert [[x.tobytes() for x in vector] for vector in made] == outcomes[0][1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 3, 15, 16, 1023, 1024, 20_000, 39_999])
def test_maxima_notice_what_is_not_finite(value: float, at: int, level: str) -> None:
    x = np.ones(40_000, np.float32)
    x[at] = value
    pieces, d = Blocks([x.size], [4]), np.zeros_like(x)
    seen = pieces.run(dispatch.vector_kernels("observe", level), [Vector([a]) for a in (np.empty_like(x), x, d)],
                      np.ones((1, 1)))
    assert np.isnan(seen[1]) if np.isnan(value) else seen[1] == np.inf


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_a_new_pair_is_among_the_rows_it_is_multiplied_with(dtype: type, known: bool, level: str) -> None:
    """As L-BFGS calls it: the rows end with s and y, which are written first; s may be the direction itself."""
    rng = np.random.default_rng(0)
    for size in (1, 15, 1024, 20_001):
        d, g, h, a, old = (rng.standard_normal(size).astype(dtype) for _ in range(5))
        s, y, step = d if known else np.empty_like(d), np.empty_like(d), 1.0 if known else 0.3
        wanted = dtype(step) * d, g - h
        pieces = Blocks([size], [np.dtype(dtype).itemsize])
        found = pieces.run(dispatch.vector_kernels("renew", level),
                           [Vector([x]) for x in (s, y, d, g, h, a, old, s, y)],
                           np.array([[step, 0.0]]))
        assert np.array_equal(s, wanted[0])
        assert np.array_equal(y, wanted[1])
        gram = pieces.run(dispatch.vector_kernels("gram", level), [Vector([x]) for x in (a, y, old, s, y)],
                          np.ones((1, 1)))
        assert found[1:] == gram
        assert found[0] == pytest.approx(s.astype(float) @ s, rel=1e-12)
        assert gram[3::2] == pytest.approx([s.astype(float) @ y, y.astype(float) @ y], rel=1e-12, abs=1e-9)


def test_no_parameters_and_empty_ones() -> None:
    for sizes in ([], [0], [0, 0]):
        empty = Vector([np.zeros(size) for size in sizes])
        pieces, kernel = Blocks(sizes, [8] * len(sizes)), dispatch.vector_kernels("observe", dispatch.level)
        assert pieces.run(kernel, [empty] * 3, np.ones((1, 1))) == [0, 0]


def test_two_loops_is_the_two_loop_recursion() -> None:
    rng = np.random.default_rng(0)
    n, m = 30, 6
    matrix = rng.standard_normal((n, n))
    matrix = matrix @ matrix.T + np.eye(n)
    s, g = rng.standard_normal((m, n)), rng.standard_normal(n)
    y = s @ matrix
    order = [3, 4, 5, 0, 1, 2]                   # a ring that has turned
    q, alpha = -g, {}
    for k in reversed(order):
        alpha[k] = s[k] @ q / (s[k] @ y[k])
        q = q - alpha[k] * y[k]
    gamma = s[2] @ y[2] / (y[2] @ y[2])
    r = gamma * q
    for k in order:
        r = r + (alpha[k] - y[k] @ r / (s[k] @ y[k])) * s[k]
    a, b = two_loops(s @ y.T, y @ y.T, list(s[order] @ g), list(y[order] @ g), order, gamma)
    np.testing.assert_allclose(-gamma * g + a @ s[order] + b @ y[order], r, rtol=1e-8)
