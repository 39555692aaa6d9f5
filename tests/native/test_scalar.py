"""Powers of scalars: close to the C library's, and the same bits everywhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from optimlite.native.runtime import power, real_log, real_power


def test_powers_are_right() -> None:
    rng = np.random.default_rng(0)
    for base, exponent in zip(10 ** rng.uniform(-3, 6, 2000), rng.uniform(-3, 3, 2000), strict=True):
        assert math.isclose(real_power(base, exponent), base**exponent, rel_tol=2e-14)
    for base, exponent in zip(rng.uniform(0, 1, 2000), rng.integers(0, 5000, 2000), strict=True):
        assert math.isclose(power(base, exponent), base ** int(exponent), rel_tol=1e-12, abs_tol=1e-300)


def test_logarithms_are_right() -> None:
    for x in 10 ** np.random.default_rng(1).uniform(-300, 300, 2000):
        assert math.isclose(real_log(x), math.log(x), rel_tol=1e-15, abs_tol=1e-15)
    assert real_log(1.0) == 0
    assert real_log(0.9999).hex() == "-0x1.a3738d2cf1cc2p-14"


def test_the_ends() -> None:
    assert real_power(2.0, 10.0) == 1024
    assert real_power(1.0, 0.75) == real_power(0.96, 0.0) == 1
    assert real_power(0.96, 1e9) == 0
    assert real_power(2.0, 1e9) == math.inf
    assert power(0.9, 0) == 1
    assert power(0.0, 1) == 0


@pytest.mark.parametrize(("function", "base", "exponent", "bits"), [
    (power, 0.999, 1000, "0x1.788526411edacp-2"),
    (power, 0.9, 3000, "0x1.fcb791375e820p-457"),
    (real_power, 0.96, 0.004, "0x1.ffea9969757dbp-1"),
    (real_power, 0.96, 1234.5, "0x1.3a3e6f49127b9p-73"),
    (real_power, 1.0001, 0.75, "0x1.0004ea4685558p+0"),
    (real_power, 1000000.0, -0.8, "0x1.09e6a4f05e628p-16"),
    (real_power, 3.7, 0.5, "0x1.ec6d0353167a9p+0"),
])
def test_the_bits_are_the_same_on_every_machine(function: Any, base: float, exponent: float, bits: str) -> None:
    assert function(base, exponent).hex() == bits
