"""Docstrings in the house's style, as reStructuredText: arguments, formulas and examples are told by their layout.

    lr: the learning rate.    betas: how much is kept.          arguments, as a list
        p = p - lr * g                                          deeper than its paragraph: a formula, literally
        >>> opt.step()                                          an example
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

SPECIAL = re.compile(r"([*|\\]|_\b)")          # markup, where it isn't code
PAGE = re.compile(r"docs/(\w+)\.md")
CODE = re.compile(r" *(class|def|from|import|with) ")
ARGUMENTS = re.compile(r"(?:\*{0,2}(?:[a-z_]|T_)\w*(?:, )?)+: ")      # T_max and T_0 are names, too


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip())


def blocks(lines: list[str]) -> Iterator[list[str]]:
    """What blank lines part; an argument begins a block of its own, too, and so does what is deeper before or after."""
    block: list[str] = []
    for line in lines:
        deeper = bool(block) and not ARGUMENTS.match(block[0]) and (indent_of(line) >= 4) != (indent_of(block[-1]) >= 4)
        if block and (not line.strip() or ARGUMENTS.match(line) or deeper or starts_a_sentence_of_its_own(line)):
            yield block
            block = []
        if line.strip():
            block.append(line)
    if block:
        yield block


def joined(found: Iterator[list[str]]) -> list[list[str]]:
    """Code goes on behind a blank line, where that is as deep."""
    together: list[list[str]] = []
    for block in found:
        deep = indent_of(block[0]) >= 4 and not block[0].lstrip().startswith(">>>")
        if deep and together and CODE.match(together[-1][0]) and indent_of(together[-1][0]) >= 4:
            together[-1] += ["", *block]
        else:
            together.append(block)
    return together


def starts_a_sentence_of_its_own(line: str) -> bool:
    return line.startswith(("State: ", "Raises ", "Source: ", "Sources: "))


def escaped(lines: list[str]) -> list[str]:
    """Text, in which single backquotes are the only markup, and pages are links."""
    parts = "\n".join(lines).split("`")
    return "`".join(part if odd % 2 else PAGE.sub(r":doc:`/\1`", SPECIAL.sub(r"\\\1", part))
                    for odd, part in enumerate(parts)).split("\n")


def as_rst(block: list[str]) -> list[str]:
    if ARGUMENTS.match(block[0]):
        return ["", *entries(block)]
    if indent_of(block[0]) >= 4:
        if block[0].lstrip().startswith(">>>"):
            return ["", *(line[4:] for line in block), ""]
        language = "python" if CODE.match(block[0]) else "text"
        return ["", f".. code-block:: {language}", "", *block, ""]
    return ["", *escaped(block)]


def entries(block: list[str]) -> list[str]:
    """`lr: the rate.    betas: two.` as items of a list, one for each."""
    items: list[str] = []
    for line in block:
        for part in re.split(r"(?<=[.?)]) {3,}", line.rstrip()):
            if ARGUMENTS.match(part):
                names, meaning = part.split(": ", 1)
                items.append(f"* {', '.join(f'``{name}``' for name in names.split(', '))}: {plain(meaning)}")
            elif items:
                items[-1] += f" {plain(part)}"
            else:
                items.append(part)
    return items


def plain(text: str) -> str:
    return "\n".join(escaped([text.strip()]))


def convert(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    depth = min((indent_of(line) for line in lines[1:] if line.strip()), default=0)
    dedented = [lines[0], *(line[depth:] for line in lines[1:])] if lines else []
    lines[:] = [line for block in joined(blocks(dedented)) for line in as_rst(block)]


def setup(app: Any) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", convert)
    return {"parallel_read_safe": True}
