"""Checkpoint files on the command line: `python -m optimlite inspect FILE`, `verify FILE`, `convert FROM TO`.

Exits with 0, with 1 for a file that is damaged or can't be read or written, with 2 for a wrong command.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import groupby
from typing import Any, TextIO

from . import __version__
from .checkpoint import CheckpointError
from .checkpoint.files import printable

BROKEN_PIPE, INTERRUPTED = 128 + 13, 128 + 2             # as a shell has it of a program that such a signal ends


def main(arguments: list[str] | None = None) -> int:
    options = command_line().parse_args(arguments)
    try:
        result = run(options)
        sys.stdout.flush()
        return result
    except BrokenPipeError:                      # `| head`: nobody reads on, and the flush at the end would fail, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except (CheckpointError, OSError, ImportError, TypeError, ValueError, MemoryError) as fault:
        for line in (str(fault) or type(fault).__name__).splitlines():
            say(printable(line), sys.stderr)
        return 1


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m optimlite", description="Looks into checkpoint files.")
    parser.add_argument("--version", action="version", version=f"optimlite {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("inspect", "a table of what is inside"), ("verify", "compare every checksum")):
        commands.add_parser(name, help=text, description=text).add_argument("file", metavar="FILE")
    text = "a file of torch.save to safetensors, or safetensors to torch's (.pt, .pth, .bin); needs PyTorch"
    convert = commands.add_parser("convert", help=text, description=text)
    convert.add_argument("source", metavar="FROM")
    convert.add_argument("target", metavar="TO")
    return parser


def run(options: argparse.Namespace) -> int:
    if options.command == "convert":
        from .checkpoint.torch_files import convert

        convert(options.source, options.target)
        say(printable(f"wrote {options.target}"))
        return 0
    return inspect(options.file) if options.command == "inspect" else verify(options.file)


def say(line: str, to: TextIO | None = None) -> None:
    """Prints what is printable; what the terminal has no sign for, as its code."""
    to = to or sys.stdout
    encoding = to.encoding or "ascii"
    print(line.replace("×", "x" if encoding.lower().replace("-", "") in ("ascii", "usascii") else "×")
          .encode(encoding, "backslashreplace").decode(encoding), file=to)


def verify(path: str) -> int:
    from .checkpoint.reader import File

    with File(path) as file:
        if not file.ours:
            say(f"{printable(path)}: the header is valid, and the file has no checksums to verify")
            return 0
        file.verify()
        say(f"{printable(path)}: {len(file.tensors)} arrays, {size(file.size)}: all checksums agree")
    return 0


def inspect(path: str) -> int:
    from .checkpoint.reader import File

    damaged = 0
    with File(path) as file:
        rows = [("array", "dtype", "shape", "bytes", "checksum")]
        for tensor in file.tensors.values():
            state = "none"
            if tensor.crc is not None:
                try:
                    file.verify([tensor])
                    state = "ok"
                except CheckpointError:
                    state, damaged = "DAMAGED", damaged + 1
            rows.append((printable(tensor.name), tensor.code, "×".join(map(str, tensor.shape)) or "scalar",
                         size(tensor.end - tensor.begin), state))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        for row in rows:
            say("  ".join(cell.rjust(width) if column == 3 else cell.ljust(width)
                          for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip())
        say(f"\n{len(file.tensors)} arrays, {size(file.size)}"
            + (f", format version {file.metadata['optimlite']}" if file.ours else ", not written by optimlite"))
        for line in facts(file):
            say(line)
    return 1 if damaged else 0


def facts(file: Any) -> Iterator[str]:
    """Steps and learning rates of optimizers, schedulers' counts, and plain values: of any file, whatever it holds."""
    from .checkpoint.header import Tensor
    from .checkpoint.tree import leaves

    if not file.ours:
        yield from (f"{printable(key)}: {short(value)}" for key, value in file.metadata.items())
        return
    for name, part in file.parts.items():
        name = printable(name)
        if is_optimizer(part):
            yield f"{name}: step {', '.join(map(str, steps(file, part['state']))) or 'not taken'}"
            for index, group in enumerate(part["param_groups"]):
                yield f"{name}: lr {short(group.get('lr'))} in group {index}"
        elif isinstance(part, dict) and "last_epoch" in part:
            yield f"{name}: {short(part.get('type', 'scheduler'))} at count {short(part['last_epoch'])}"
        elif not any(isinstance(leaf, Tensor) for _, leaf in leaves(part)):
            yield f"{name}: {short(part)}"


def is_optimizer(part: Any) -> bool:
    return (isinstance(part, dict) and isinstance(part.get("state"), dict)
            and isinstance(part.get("param_groups"), list)
            and all(isinstance(each, dict) for each in (*part["state"].values(), *part["param_groups"])))


def steps(file: Any, state: dict[Any, dict[str, Any]]) -> list[int]:
    """The numbers of steps, each once, that parameters have taken; of arrays that aren't damaged."""
    from .checkpoint.header import Tensor

    found = [entries["step"] for entries in state.values() if "step" in entries]
    counts = [count for count in found if isinstance(count, int)]
    stored = [count for count in found if isinstance(count, Tensor) and count.shape == () and count.code[0] in "IUF"]
    whole = sorted(int(count) for count in (*counts, *file.fresh(stored, False).values()) if count == count // 1)
    return [count for count, _ in groupby(whole)]        # not by a set: a crafted file's numbers could collide in it


def short(value: Any) -> str:
    text = str(value)
    return printable(text if len(text) <= 100 else text[:97] + "...")


def size(count: float) -> str:
    """1536 -> '1.5 KB'."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"


if __name__ == "__main__":
    raise SystemExit(main())
