"""Flushing subnormal numbers to zero while kernels run."""

from __future__ import annotations

from .. import checks
from . import runtime


def set_flush_denormal(mode: bool) -> bool:
    """Sets whether kernels take subnormal numbers for zero; returns False where the CPU can't, and changes nothing.

    mode: True or False; raises TypeError for anything else.

    Moments that decay where gradients vanish end as subnormal numbers, with which CPUs can be many times slower.  Off
    by default.  The mode is set on each kernel thread while it runs and restored after: unlike with torch's function,
    the rest of the process notices nothing.  It costs equality of bits where a result is below 1.2e-38 (2.2e-308 in
    float64): there, steps differ from those without it, and may differ between x86 and arm64.

        >>> ol.set_flush_denormal(False)
        True
    """
    return runtime.set_flush_denormal(checks.flag("mode", mode))


def get_flush_denormal() -> bool:
    """Whether kernels take subnormal numbers for zero.

        >>> ol.get_flush_denormal()
        False
    """
    return runtime.get_flush_denormal()
