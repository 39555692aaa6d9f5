"""Ctrl-C without chance: KeyboardInterrupt at each moment, one after the other, at which CPython looks for signals.

The interpreter looks when a function starts, after a call, and when a loop goes back; compiled code isn't interrupted.
"""

from __future__ import annotations

import dis
import functools
import gc
import sys
from collections.abc import Callable
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any

CALLS = ("CALL", "CALL_KW", "CALL_FUNCTION_EX")


@functools.cache
def moments(code: CodeType) -> frozenset[int]:
    """The instructions of a function that an interrupt can come before, by their offsets."""
    listing = list(dis.get_instructions(code))
    guarded = dis.Bytecode(code).exception_entries

    def handler(offset: int) -> Any:
        # An interrupt is raised by the instruction that looked; it must have the handler of the one that comes next.
        return next((entry.target for entry in guarded if entry.start <= offset < entry.end), None)

    found = {after.offset for before, after in pairwise(listing)
             if before.opname in (*CALLS, "RESUME") and handler(before.offset) == handler(after.offset)}
    return frozenset(found | {i.argval for i in listing if i.opname == "JUMP_BACKWARD"})


def interrupted(act: Callable[[], Any], moment: int) -> bool:
    """Runs `act` and interrupts it at the given moment, counted from 1; False if it ended before."""
    passed = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal passed
        if event == "call":
            frame.f_trace = trace        # CPython 3.13 takes the next line only where this is known
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode" and frame.f_lasti in moments(frame.f_code):
            passed += 1
            if passed == moment:
                raise KeyboardInterrupt
        return trace

    before, collects = sys.gettrace(), gc.isenabled()
    gc.disable()                         # what others hang into collections (hypothesis does) swallows an interrupt
    sys._getframe().f_trace_opcodes = True       # CPython 3.12 looks for it when tracing begins
    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()
    return False


def everywhere(build: Callable[[], Any], act: Callable[[Any], Any], check: Callable[[Any], Any], every: int = 1) -> int:
    """Builds a subject, acts on it with an interrupt, and checks it, for each moment; returns how many there were."""
    moment = 1
    while True:
        subject = build()
        if not interrupted(lambda: act(subject), moment):      # noqa: B023 - runs at once
            return moment // every
        try:
            check(subject)
        except BaseException as error:
            error.add_note(f"interrupted at moment {moment}")
            raise
        moment += every
