"""Without mpi4py, and without an MPI library: what is called says what to install, and `simulate` needs neither."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from support.helpers import output_of

# As imports of the package itself fail, instead of the one that there may be.
MISSING = """
    import importlib.abc, sys

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "mpi4py":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Finder())
"""
FAKES = {
    # a wheel of mpi4py looks for a library when its module is looked for,
    "wheel": {"__init__.py": """
        import importlib.abc, sys

        class Finder(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name == "mpi4py.MPI":
                    raise RuntimeError("cannot load MPI library\\nlibmpi.so.12: cannot open shared object file")

        sys.meta_path.insert(0, Finder())
    """},
    # and one that was compiled for a library is linked with it
    "compiled": {"__init__.py": "", "MPI.py": """
        raise ImportError("libmpi.so.40: cannot open shared object file: No such file or directory")
    """}}
NO_MPI4PY = ('optimlite.mpi needs mpi4py; install it with `pip install "optimlite[mpi]"`, or give a communicator as '
             "`comm` (No module named 'mpi4py')")
NO_LIBRARY = ("mpi4py finds no MPI library; install one, with `pip install mpich` or as your cluster has it, or give a "
              "communicator as `comm` ({})")
CALLS = {"Sharded": "mpi.Sharded(opt)", "broadcast": "mpi.broadcast([w])", "average_gradients":
         "mpi.average_gradients(opt)", "summed": "mpi.summed(abs)", "Checkpoints": "mpi.Checkpoints('here')",
         "save": "mpi.save('run', model=[w])", "restore": "mpi.restore('run', model=[w])"}


def said(before: str, folder: Path, call: str) -> str:
    """What a call without a communicator raises, where simulated ranks step."""
    return output_of(textwrap.dedent(before) + textwrap.dedent(f"""
        import os
        import numpy as np, optimlite as ol
        from optimlite import mpi

        def train(comm):
            w = np.ones(2)
            mpi.Sharded(ol.SGD([w], lr=0.5), comm).step(grads=[w])
            return w.tolist()

        assert mpi.simulate(2, train) == [[0.5, 0.5]] * 2
        w = np.ones(2)
        opt = ol.SGD([w], lr=0.5)
        before = sorted(os.listdir())
        try:
            {call}
        except ImportError as fault:
            print(fault)
        assert (w == 1).all() and not opt.steps_taken and sorted(os.listdir()) == before
    """), folder=folder)                         # where Python looks first


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_without_mpi4py(call: str, tmp_path: Path) -> None:
    assert said(MISSING, tmp_path, call) == NO_MPI4PY


@pytest.mark.parametrize(("kind", "why"), [
    ("wheel", "cannot load MPI library"),
    ("compiled", "libmpi.so.40: cannot open shared object file: No such file or directory")])
def test_without_an_mpi_library(kind: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "mpi4py").mkdir()
    for name, text in FAKES[kind].items():
        (tmp_path / "mpi4py" / name).write_text(textwrap.dedent(text))
    assert said("", tmp_path, CALLS["Sharded"]) == NO_LIBRARY.format(why)
