"""Every public name in code type is a link to its reference, and links between files of the repository stay right."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref

import optimlite as ol

MODULES = ("line_search", "log", "lr_scheduler", "mpi", "schedules")
CALL = re.compile(rf"(?:ol\.|optimlite\.)?((?:(?:{'|'.join(MODULES)})\.)?\w+)(?:\([^)]*\)?)?$")
PUBLIC = {**{name: f"optimlite.{name}" for name in ol.__all__},
          **{name: f"optimlite.lr_scheduler.{name}" for name in ol.lr_scheduler.__all__},
          **{f"{module}.{name}": f"optimlite.{module}.{name}" for module in MODULES
             for name in import_module(f"optimlite.{module}").__all__}}
AMBIGUOUS = {"load", "save", "restore", "log", "create", "available"}        # words for other things, too


def target(text: str) -> str | None:
    found = CALL.match(text)
    if found is None or (found[1] in AMBIGUOUS and not text.startswith("ol.")):
        return None
    return PUBLIC.get(found[1])


def link(app: Any, doctree: nodes.document) -> None:
    for literal in list(doctree.findall(nodes.literal)):
        inside = any(isinstance(above, nodes.reference | pending_xref | nodes.title) for above in parents(literal))
        name = None if inside else target(literal.astext())
        if name is not None:
            xref = pending_xref("", refdomain="py", reftype="obj", reftarget=name, refexplicit=True, refwarn=False)
            xref["refdoc"] = app.env.current_document.docname
            literal.replace_self(xref)
            xref += literal


def parents(node: nodes.Node) -> Any:
    while node.parent is not None:
        node = node.parent
        yield node


def rewrite(app: Any, page: str, source: list[str]) -> None:
    """Files beside the folder are pages of the site, by other names; in tables, percent signs stay by their figures."""
    for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG"):
        source[0] = source[0].replace(f"(../{name}.md", f"({name.lower()}.md")
    source[0] = re.sub(r"^\|.*", lambda row: row[0].replace(" %", "\N{NO-BREAK SPACE}%"), source[0], flags=re.M)


def setup(app: Any) -> dict[str, Any]:
    app.connect("source-read", rewrite)
    app.connect("doctree-read", link)
    return {"parallel_read_safe": True}
