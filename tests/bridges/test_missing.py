"""Bridges are imported by those who want them alone, and say what they need where it isn't there."""

from __future__ import annotations

import pytest

import optimlite as ol
from support.helpers import output_of, run_python

LIBRARIES = {"torch": "PyTorch; install it with `pip install torch`",
             "sklearn": "scikit-learn; install it with `pip install scikit-learn`",
             "jax": "JAX; install it with `pip install jax`"}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_is_missing_is_named(library: str) -> None:
    done = run_python(f"import sys; sys.modules[{library!r}] = None; import optimlite.{library}")
    assert done.stderr.splitlines()[-1] == f"ImportError: `optimlite.{library}` needs {LIBRARIES[library]}"


@pytest.mark.parametrize("library", ["autograd", "thinc"])
def test_others_do_without_it(library: str) -> None:
    assert output_of(f"import sys; sys.modules[{library!r}] = None; import optimlite.{library}; print('ok')") == "ok"


@pytest.mark.parametrize("library", ["torch", "sklearn", "jax", "autograd", "thinc"])
def test_a_bridge_that_was_not_imported_says_how(library: str) -> None:
    assert output_of(f"""
        import optimlite as ol
        try:
            ol.{library}
        except AttributeError as error:
            print(error)
    """) == f"module 'optimlite' has no attribute '{library}'; import it: `import optimlite.{library}`"
    assert library not in ol.__all__
