"""`python -m optimlite`: the command line, which stands in `optimlite/cli/`."""

from __future__ import annotations

from .cli.main import main as main

if __name__ == "__main__":
    raise SystemExit(main())
