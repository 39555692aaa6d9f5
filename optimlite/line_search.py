"""The line searches under their public name, `optimlite.line_search`; they are written in closures/line_search.py."""

from .closures.line_search import SEARCHES, Found, Phi, Trial, backtracking, hager_zhang, strong_wolfe

__all__ = ["SEARCHES", "Found", "Phi", "Trial", "backtracking", "hager_zhang", "strong_wolfe"]
