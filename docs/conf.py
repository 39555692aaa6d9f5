"""The site: `make docs` builds it from these pages, the docstrings and the pictures that it draws itself."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "site")]

import optimlite as ol  # noqa: E402  from this clone

project = "optimlite"
author = "the optimlite developers"
release = version = ol.__version__
copyright = f"2026, {author}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinx_design", "docstrings", "links",
              "pictures", "speed"]
exclude_patterns = ["build", "site"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "attrs_inline", "smartquotes"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]

autodoc_mock_imports = [name for name in ("jax", "torch") if find_spec(name) is None]      # large, and not run here
autodoc_typehints = "none"                   # the docstrings say what an argument is, in words
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
default_role = "code"
highlight_language = "text"                  # where a block doesn't say
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "optimlite"
html_static_path = ["_static"]
html_css_files = ["house.css"]
html_show_sphinx = False
html_show_sourcelink = html_copy_source = False
html_theme_options: dict[str, Any] = {
    "light_css_variables": {"color-brand-primary": "#0b6e69", "color-brand-content": "#0b6e69",
                            "font-stack": "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"},
    "dark_css_variables": {"color-brand-primary": "#4fd1c5", "color-brand-content": "#4fd1c5"},
    "navigation_with_keys": True,
}
