"""The error that says what is wrong with a file."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A file that is damaged, cut short or no checkpoint at all; the message names the file and the fault.

        >>> try:
        ...     values = ol.load(__file__)
        ... except ol.CheckpointError:
        ...     print("start anew")
        start anew
    """

    __module__ = __package__                     # as users import it, so tracebacks and pickles name it
