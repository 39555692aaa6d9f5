"""The number of threads that steps may use."""

from __future__ import annotations

import operator
import os

from ..checks import shown
from . import runtime

CGROUPS = "/sys/fs/cgroup"


def _quota() -> int:
    """The CPUs that a container's quota leaves, rounded up; a large number where there is none."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):      # cgroup v2, v1
        try:
            quota, period = " ".join([_content(f"{CGROUPS}/{name}") for name in files]).split()
            if int(quota) > 0:           # v1: -1 is none
                return max(1, -(-int(quota) // int(period)))
        except (OSError, ValueError, ZeroDivisionError):     # no such cgroups, or "max"
            continue
    return 1 << 30


def _content(path: str) -> str:
    with open(path) as file:
        return file.read()


def default_num_threads() -> int:
    """OPTIMLITE_NUM_THREADS, or the CPUs that this process may use."""
    wanted = os.environ.get("OPTIMLITE_NUM_THREADS")
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ValueError(f"`OPTIMLITE_NUM_THREADS` must be an integer >= 1, got '{wanted}'")
        return int(wanted)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, _quota())


def set_num_threads(threads: int) -> None:
    """Sets how many threads a step may use, the calling one included.  Results don't depend on it.

    threads: at least 1; more than 256 are 256.  The environment variable OPTIMLITE_NUM_THREADS does the same.
    Raises ValueError for what isn't an integer >= 1.

        >>> ol.set_num_threads(1)
        >>> ol.get_num_threads()
        1
    """
    try:
        count = 0 if isinstance(threads, bool) else operator.index(threads)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(f"`threads` must be an integer >= 1, got {shown(threads)}")
    runtime.set_num_threads(min(count, 256))


def get_num_threads() -> int:
    """How many threads a step may use; by default the CPUs that this process may use.

        >>> ol.get_num_threads() >= 1
        True
    """
    return runtime.get_num_threads()


set_num_threads(default_num_threads())
