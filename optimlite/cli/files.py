"""`inspect`, `verify` and `convert`: checkpoint files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from ..checkpoint import CheckpointError
from ..checkpoint.files import printable
from .output import say, say_json, say_table, size


def convert(options: argparse.Namespace) -> int:
    from ..checkpoint.torch_files import convert

    convert(options.source, options.target)
    if options.json:
        say_json({"wrote": options.target})
    else:
        say(printable(f"wrote {options.target}"))
    return 0


def verify(options: argparse.Namespace) -> int:
    from ..checkpoint.reader import File

    path = options.file
    with File(path) as file:
        if file.ours:
            file.verify()
        if options.json:
            say_json({"file": path, "arrays": len(file.tensors), "bytes": file.size, "checksums": file.ours})
        elif file.ours:
            say(f"{printable(path)}: {len(file.tensors)} arrays, {size(file.size)}: all checksums agree")
        else:
            say(f"{printable(path)}: the header is valid, and the file has no checksums to verify")
    return 0


def inspect(options: argparse.Namespace) -> int:
    from ..checkpoint.reader import File

    with File(options.file) as file:
        states = {tensor.name: checksum(file, tensor) for tensor in file.tensors.values()}
        if options.json:
            say_json({"file": options.file, "bytes": file.size,
                      "format": file.metadata.get("optimlite") if file.ours else None,
                      "arrays": [{"name": tensor.name, "dtype": tensor.code, "shape": list(tensor.shape),
                                  "bytes": tensor.end - tensor.begin, "checksum": states[tensor.name]}
                                 for tensor in file.tensors.values()], "facts": list(facts(file))})
        else:
            show(file, states)
    return 1 if "DAMAGED" in states.values() else 0


def checksum(file: Any, tensor: Any) -> str:
    if tensor.crc is None:
        return "none"
    try:
        file.verify([tensor])
        return "ok"
    except CheckpointError:
        return "DAMAGED"


def show(file: Any, states: dict[str, str]) -> None:
    rows = [("array", "dtype", "shape", "bytes", "checksum")]
    rows += [(printable(tensor.name), tensor.code, "×".join(map(str, tensor.shape)) or "scalar",
              size(tensor.end - tensor.begin), states[tensor.name]) for tensor in file.tensors.values()]
    say_table(rows, right=(3,))
    say(f"\n{len(file.tensors)} arrays, {size(file.size)}"
        + (f", format version {file.metadata['optimlite']}" if file.ours else ", not written by optimlite"))
    for line in facts(file):
        say(line)


def facts(file: Any) -> Iterator[str]:
    """Steps and learning rates of optimizers, schedulers' counts, and plain values: of any file, whatever it holds."""
    from ..checkpoint.header import Tensor
    from ..checkpoint.tree import leaves

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
    from ..checkpoint.header import Tensor

    found = [entries["step"] for entries in state.values() if "step" in entries]
    counts = [count for count in found if isinstance(count, int)]
    stored = [count for count in found if isinstance(count, Tensor) and count.shape == () and count.code[0] in "IUF"]
    whole = sorted(int(count) for count in (*counts, *file.fresh(stored, False).values()) if count == count // 1)
    return [count for count, _ in groupby(whole)]        # not by a set: a crafted file's numbers could collide in it


def short(value: Any) -> str:
    text = str(value)
    return printable(text if len(text) <= 100 else text[:97] + "...")
