"""The command line: what verbs there are, what they take, and how a program ends.

Exits with 0, with 1 where a file is damaged or something can't be done, with 2 for a wrong command.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from .. import __version__
from ..checkpoint import CheckpointError
from ..checkpoint.files import printable
from .output import say

BROKEN_PIPE, INTERRUPTED = 128 + 13, 128 + 2             # as a shell has it of a program that such a signal ends
FAULTS = (CheckpointError, OSError, ImportError, TypeError, ValueError, MemoryError)


def main(arguments: list[str] | None = None) -> int:
    options = command_line().parse_args(arguments)
    try:
        module = importlib.import_module(f"{__package__}.{options.module}")
        result: int = getattr(module, options.command)(options)
        sys.stdout.flush()
        return result
    except BrokenPipeError:                      # `| head`: nobody reads on, and the flush at the end would fail, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except FAULTS as fault:
        for line in (str(fault) or type(fault).__name__).splitlines():
            say(printable(line), sys.stderr)
        return 1


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m optimlite", description="What this machine does, and a look into the files of runs.",
        epilog="Exits with 0; with 1 where a file is damaged or something can't be done; with 2 for a wrong command.")
    parser.add_argument("--version", action="version", version=f"optimlite {__version__}")
    verbs = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    verb(verbs, "info", "info", "versions, the CPU level that kernels were chosen for, and threads")

    bench = verb(verbs, "bench", "bench", "how fast steps are here, beside NumPy and beside the memory: about a minute")
    bench.add_argument("--seconds", type=float, default=60.0, help="how long to measure (default: 60)")

    for name, text in (("inspect", "a table of what is inside a checkpoint"),
                       ("verify", "compare every checksum of a checkpoint")):
        verb(verbs, name, "files", text).add_argument("file", metavar="FILE")

    convert = verb(verbs, "convert", "files", "a file of torch.save to safetensors, or safetensors to torch's "
                                              "(.pt, .pth, .bin); needs PyTorch")
    convert.add_argument("source", metavar="FROM")
    convert.add_argument("target", metavar="TO")

    plot = verb(verbs, "plot", "plot", "draw the log of a run (CSV, JSON lines or TensorBoard's); needs matplotlib")
    plot.add_argument("log", metavar="LOG")
    plot.add_argument("picture", metavar="PICTURE", help="the file to write: .png, .pdf, .svg, …")
    plot.add_argument("--names", nargs="+", metavar="NAME", help="metrics, or patterns such as 'update_ratio/*'")
    plot.add_argument("--smoothing", type=float, default=0.0, help="of an exponential mean, from 0 to below 1")

    plan = verb(verbs, "plan", "plan", "what a sharded optimizer takes on each rank: memory, network, time of a step")
    plan.add_argument("--params", type=float, required=True, help="elements of the model, such as 1e9")
    plan.add_argument("--ranks", type=int, required=True)
    plan.add_argument("--bandwidth", type=float, required=True, help="of a rank's network, bytes per second each way")
    plan.add_argument("--memory", type=float, default=20e9, help="bytes per second that a rank moves (default: 20e9)")
    plan.add_argument("--optimizer", default="adamw", help="by name, as ol.available() has it (default: adamw)")
    plan.add_argument("--state-dtype", help="bfloat16 or int8")
    return parser


def verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, module: str, text: str,
         ) -> argparse.ArgumentParser:
    """A verb, which is the function of its name in a module of this folder."""
    parser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.set_defaults(module=module)
    return parser
