"""Complex numbers are refused with a cure that loses no imaginary part, and the cure works."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol

TARGET = np.array([1 - 2j, 0.5j, -3.0])


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_the_parts_are_parameters(dtype: Any) -> None:
    z = np.ones(3, dtype)
    real = f"float{z.itemsize * 4}"
    with pytest.raises(TypeError, match=rf"'z' must be float32 or float64, got complex\d+; use a.view\(np.{real}\), "
                                        rf"which shares its memory: the real and imaginary parts by turns$"):
        ol.Adam({"z": z})
    part = z.real.dtype.type
    for parameters, parts in [({"z": z.view(part)}, lambda g: {"z": g.view(part)}),
                              ({"re": z.real, "im": z.imag}, lambda g: {"re": g.real, "im": g.imag})]:
        z[...] = 1
        opt = ol.Adam(parameters, lr=0.05)
        for _ in range(600):
            opt.step(grads=parts((2 * (z - TARGET)).astype(dtype)))
        np.testing.assert_allclose(z, TARGET, atol=1e-3)


@pytest.mark.parametrize("z", [np.ones((3, 4), complex)[:, ::2], np.ones((), complex), np.ones((3, 4), complex).T],
                         ids=["strided", "no axes", "transposed"])
def test_where_numpy_gives_no_view_of_both_parts(z: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"use a.real and a.imag, two parameters that share its memory"):
        ol.Parameter(z, "z")
    opt = ol.SGD({"re": z.real, "im": z.imag}, lr=1.0)
    opt.step(grads={"re": np.ones(z.shape), "im": np.full(z.shape, 2.0)})
    assert (z == -2j).all()


def test_long_complex_numbers_need_a_copy() -> None:
    with pytest.raises(TypeError, match=r"use a.astype\(np.complex128\).view\(np.float64\), and let the model"):
        ol.Parameter(np.ones(3, np.clongdouble))


def test_complex_gradients_of_real_parameters() -> None:
    p = ol.Parameter(np.ones(4), "W")
    with pytest.raises(TypeError, match=r"gradient of 'W' is complex128 but the parameter is float64; use grad.view"
                                        r"\(np.float64\) if the parameter is such a view of complex numbers, "
                                        r"grad.real if it is real"):
        p.grad = np.ones(2, complex)
    q = ol.Parameter(np.ones(4, np.float32), "W")
    with pytest.raises(TypeError, match=r"grad.real.astype\(np.float32\) if it is real"):
        q.grad = np.ones(4, complex)
    with pytest.raises(TypeError, match=r"complex64; use values.view\(np.float32\), or values.real"):
        ol.SparseGrad([0], np.ones((1, 2), np.complex64))
    with pytest.raises(TypeError, match=r"be its gradient: use gradient.view\(np.float64\) if x is such a view"):
        ol.minimize(lambda x: (1.0, np.ones(2, complex)), np.ones(4))
