"""Checkpoint files on the command line: `python -m optimlite inspect FILE`, `verify FILE`, `convert FROM TO`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from .checkpoint import CheckpointError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m optimlite", description="Looks into checkpoint files.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("inspect", "a table of what is inside"), ("verify", "compare every checksum")):
        commands.add_parser(name, help=text, description=text).add_argument("file", metavar="FILE")
    text = "a file of torch.save to safetensors, or a .safetensors file to torch's; needs PyTorch"
    convert = commands.add_parser("convert", help=text, description=text)
    convert.add_argument("source", metavar="FROM")
    convert.add_argument("target", metavar="TO")
    options = parser.parse_args(arguments)
    try:
        if options.command == "convert":
            from .checkpoint.torch_files import convert as run

            run(options.source, options.target)
            print(f"wrote {options.target}")
            return 0
        return inspect(options.file) if options.command == "inspect" else verify(options.file)
    except (CheckpointError, OSError, ImportError, TypeError) as fault:
        print(fault, file=sys.stderr)
        return 1


def verify(path: str) -> int:
    from .checkpoint.reader import File

    with File(path) as file:
        if not file.ours:
            print(f"{path}: the header is valid, and the file has no checksums to verify")
            return 0
        file.verify()
        print(f"{path}: {len(file.tensors)} arrays, {size(file.size)}: all checksums agree")
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
            rows.append((tensor.name, tensor.code, "×".join(map(str, tensor.shape)) or "scalar",
                         size(tensor.end - tensor.begin), state))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        for row in rows:
            print("  ".join(cell.rjust(width) if column == 3 else cell.ljust(width)
                            for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip())
        print(f"\n{len(file.tensors)} arrays, {size(file.size)}"
              + (f", format version {file.metadata['optimlite']}" if file.ours else ", not written by optimlite"))
        for line in facts(file):
            print(line)
    return 1 if damaged else 0


def facts(file: Any) -> Iterator[str]:
    """Steps and learning rates of optimizers, schedulers' counts, and plain values."""
    from .checkpoint.header import Tensor
    from .checkpoint.tree import leaves

    if not file.ours:
        yield from (f"{key}: {short(value)}" for key, value in file.metadata.items())
        return
    for name, part in file.parts.items():
        if isinstance(part, dict) and {"state", "param_groups"} <= part.keys():
            steps = [entries["step"] for entries in part["state"].values() if "step" in entries]
            counts = file.fresh(steps, False).values() if all(isinstance(step, Tensor) for step in steps) else steps
            taken = sorted({int(count) for count in counts})
            yield f"{name}: step {', '.join(map(str, taken)) or 'not taken'}"
            for index, group in enumerate(part["param_groups"]):
                yield f"{name}: lr {group.get('lr')} in group {index}"
        elif isinstance(part, dict) and "last_epoch" in part:
            yield f"{name}: {part.get('type', 'scheduler')} at count {part['last_epoch']}"
        elif not any(isinstance(leaf, Tensor) for _, leaf in leaves(part)):
            yield f"{name}: {short(part)}"


def short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."


def size(count: float) -> str:
    """1536 -> '1.5 KB'."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"


if __name__ == "__main__":
    raise SystemExit(main())
