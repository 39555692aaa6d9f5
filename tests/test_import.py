"""Importing is cheap and has no side effects; it chooses the kernels, once, and never any that the CPU lacks."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from statistics import median

import pytest

import optimlite as ol
from optimlite.native import dispatch, missing
from support.helpers import output_of, run_python
from support.paths import ROOT

FLOATING_POINT = """
    import ctypes, ctypes.util, sys
    import numpy as np

    def mode():
        libm = ctypes.CDLL(ctypes.util.find_library("m"))
        return libm.fegetround(), libm.fetestexcept(0x3f) & 0, environment(libm)

    def environment(libm):
        # the control words of x87 and MXCSR: without the exception flags, which any sum may raise
        block = (ctypes.c_uint32 * 64)()
        assert libm.fegetenv(block) == 0
        return block[0] & 0xffff, block[7] & ~0x3f

    def subnormals():
        tiny32, tiny64 = np.float32(np.finfo(np.float32).tiny), sys.float_info.min
        single = np.full(64, tiny32) * np.float32(0.5)
        double = np.full(64, tiny64) * 0.5
        return bool((single != 0).all() and (double != 0).all() and tiny64 / 2 != 0)
"""


def test_importing_and_stepping_leave_the_floating_point_mode() -> None:
    """llvm-project#57589: libraries built with -ffast-math flush subnormal numbers in the whole process."""
    assert output_of(FLOATING_POINT + """
    before = mode()
    assert subnormals()
    import optimlite as ol
    assert mode() == before and subnormals()
    tiny = np.full(200_000, np.finfo(np.float32).tiny, np.float32)
    ol.SGD([tiny], lr=0.5).step(grads=[tiny.copy()])
    assert (tiny == np.finfo(np.float32).tiny / 2).all() and tiny[0] != 0
    assert mode() == before and subnormals()
    print("ok")
    """, OPTIMLITE_NUM_THREADS="3") == "ok"


def test_importing_starts_no_thread() -> None:
    assert output_of("""
        import os, threading, numpy
        before = len(os.listdir("/proc/self/task")), threading.active_count()
        import optimlite
        print(before == (len(os.listdir("/proc/self/task")), threading.active_count()))
    """) == "True"


def test_importing_needs_numpy_alone() -> None:
    """Whatever else there is, torch and matplotlib say, is imported where it is used."""
    loaded = output_of("""
        import sys, numpy
        before = set(sys.modules)
        import optimlite
        print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
    """).split()
    strangers = set(loaded) - {"optimlite", "numpy"} - set(sys.stdlib_module_names)
    assert not [name for name in strangers if "cython" not in name]          # its runtime names two modules of its own
    assert not {"json", "zlib", "mmap", "fcntl", "threading", "atexit"} & set(loaded)        # for checkpoints alone


def test_a_first_save_imports_no_schedules_and_no_suggestions(tmp_path: Path) -> None:
    """`from . import module` asks a package that suggests names for one that isn't there yet."""
    output_of("""
        import sys, numpy as np, optimlite as ol
        ol.save("a", w=np.ones(3))
        ol.ScheduleFreeSGD, ol.Average
        assert not {"optimlite.lr_scheduler", "difflib"} & set(sys.modules)
    """, folder=tmp_path)


def test_importing_changes_no_global_setting() -> None:
    assert output_of("""
        import signal, sys, warnings, locale, numpy as np
        def settings():
            return (np.geterr(), np.get_printoptions(), list(warnings.filters), locale.setlocale(locale.LC_ALL),
                    sys.getswitchinterval(), sys.getrecursionlimit(), signal.getsignal(signal.SIGINT),
                    np.random.get_state()[1].tolist())
        np.random.seed(0)
        before = repr(settings())
        import optimlite
        print(before == repr(settings()))
    """) == "True"


@pytest.mark.plain
def test_importing_is_cheap(tmp_path: Path) -> None:
    """15 ms beyond NumPy, or a fifth of NumPy's own time where machines are slow or busy: medians of CPU times."""
    code = """
        from time import process_time as now
        times = [now()]
        import numpy
        times.append(now())
        import optimlite
        times.append(now())
        print(times[1] - times[0], times[2] - times[1])
    """
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    output_of(code, **compiled)                              # the first import compiles the modules
    runs = [[float(time) for time in output_of(code, **compiled).split()] for _ in range(7)]
    numpys, ours = (median(times) for times in zip(*runs, strict=True))
    assert ours < max(0.015, 0.2 * numpys), runs


# Without compiled modules -------------------------------------------------------------------------------------------

def copied(folder: Path, compiled: bool) -> Path:
    """The installed package's files again, with or without its compiled modules."""
    leave = shutil.ignore_patterns("__pycache__", *(() if compiled else ("*.so", "*.pyd")))
    shutil.copytree(Path(ol.__file__).parent, folder / "optimlite", ignore=leave)
    return folder


def import_from(*places: Path) -> str:
    """What an import of optimlite from the first of these says last."""
    # an editable install would find the compiled modules where they were built
    alone = "import sys; sys.meta_path[:] = [each for each in sys.meta_path if 'editable' not in repr(each)]"
    done = run_python(f"{alone}; sys.path[:0] = {[*map(str, places)]!r}; import optimlite")
    assert done.returncode
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("compiled", [True, False])
def test_an_import_from_an_archive_says_what_to_do(tmp_path: Path, compiled: bool) -> None:
    """Zipped applications and environments: without help, Python speaks of a circular import."""
    archive = Path(shutil.make_archive(str(tmp_path / "environment"), "zip", copied(tmp_path / "files", compiled)))
    assert import_from(archive) == (
        f"ImportError: optimlite can't be imported from an archive ({archive / 'optimlite'}): systems load compiled "
        "modules from files only; unpack the archive, or install optimlite with `pip install .`")


def test_sources_that_were_not_built_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing, "PACKAGE", tmp_path / "optimlite")
    monkeypatch.setattr(missing.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (tmp_path / "optimlite").mkdir()
    where = f"optimlite's compiled modules for this Python are missing in {tmp_path / 'optimlite'}; "
    assert str(missing.explain(ImportError())) == where + "install it with `pip install .`"
    (tmp_path / "Makefile").touch()
    assert str(missing.explain(ImportError())).startswith(where + "build them there with `make build`")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert "pyinstaller --collect-submodules optimlite" in str(missing.explain(ImportError()))


def test_sources_that_hide_the_installed_package_say_so(tmp_path: Path) -> None:
    """After `pip install .`, Python started in the clone imports the clone's folder."""
    clone, installed = copied(tmp_path / "clone", compiled=False), copied(tmp_path / "site-packages", compiled=False)
    assert import_from(clone, installed) == (
        f"ImportError: optimlite's sources in {clone / 'optimlite'}, which aren't built for this Python, hide the "
        f"package that is installed in {installed / 'optimlite'}; start Python in another folder, or build the sources "
        "with `make build`")


def test_a_numpy_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = ImportError("numpy.core.multiarray failed to import")
    assert missing.explain(failure) is failure
    monkeypatch.setattr("numpy.__version__", "1.26.4")
    assert str(missing.explain(failure)) == ("optimlite needs NumPy >= 2.0, and 1.26.4 is installed; "
                                             "use `pip install 'numpy>=2'`")


def test_what_fails_within_compiled_modules_keeps_its_own_error(tmp_path: Path) -> None:
    done = run_python("import sys; sys.modules['numpy'] = None; import optimlite")
    assert "import of numpy halted" in done.stderr.splitlines()[-1]
    place = copied(tmp_path, compiled=True)
    for module in (place / "optimlite" / "native").glob("runtime*"):
        if module.suffix != ".pyi":
            module.write_bytes(module.read_bytes()[:100])
    assert "runtime" in import_from(place)
    assert "pip install" not in import_from(place)


# Levels --------------------------------------------------------------------------------------------------------------

LEVEL = """
    import sys, numpy as np, optimlite as ol
    from optimlite.native import dispatch
    for dtype in (np.float32, np.float64):
        array = np.ones(9, dtype)
        ol.Adam([array], lr=0.5).step(grads=[np.ones(9, dtype)])
    print(dispatch.level, *sorted(name.rpartition(".kernels_")[2] for name in sys.modules if ".kernels_" in name))
"""


def those_of(level: str) -> str:
    return f"{level} f32_{level} f64_{dispatch.SAME.get(('f64', level), level)}"


@pytest.mark.parametrize("level", dispatch.available())
def test_the_environment_chooses_the_level(level: str) -> None:
    """pytorch and DeepSpeed#1886, SIGILL: only the modules of the chosen level are ever imported."""
    assert output_of(LEVEL, OPTIMLITE_CPU=level) == those_of(level)


def test_the_best_level_is_the_default() -> None:
    best = dispatch.available()[-1]
    assert output_of(LEVEL, OPTIMLITE_CPU="") == those_of(best)


@pytest.mark.parametrize("value", ["v5", "avx2", "Baseline", "0"])
def test_an_unknown_level_is_refused(value: str) -> None:
    done = run_python("import optimlite", OPTIMLITE_CPU=value)
    assert done.returncode
    assert f"`OPTIMLITE_CPU` must be one of baseline, v3, v4, got '{value}'" in done.stderr


def test_a_level_that_the_cpu_lacks_is_refused_and_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed#1886, numcodecs#252: an AVX-512 build run where there is none."""
    monkeypatch.setattr(dispatch, "cpu_supports", lambda level: level == "baseline")
    assert dispatch.choose(None) == "baseline"
    assert dispatch.available() == ["baseline"]
    for level in ("v3", "v4"):
        with pytest.raises(ValueError, match=f"must be one of baseline here, got '{level}', which is not supported"):
            dispatch.choose(level)
        with pytest.raises(ValueError, match=f"does not support the level '{level}'"):
            dispatch.kernels(float, level)


def test_a_level_that_was_not_built_is_refused_and_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "cpu_supports", lambda level: True)
    monkeypatch.setattr(dispatch, "built", lambda level: level == "baseline")
    assert dispatch.choose(None) == "baseline"
    with pytest.raises(ValueError, match="got 'v3', which was not built"):
        dispatch.choose("v3")
    monkeypatch.setattr(dispatch, "built", lambda level: False)
    with pytest.raises(ImportError, match="kernels are missing; install it with"):
        dispatch.choose(None)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(ImportError, match="frozen without optimlite's compiled modules"):
        dispatch.choose(None)


def test_the_package_tells_pyinstaller_of_its_modules() -> None:
    """Those of the kernels are imported by names that are made while the program runs."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    module, function = project["project"]["entry-points"]["pyinstaller40"]["hook-dirs"].split(":")
    [folder] = getattr(importlib.import_module(module), function)()
    assert "hiddenimports = collect_submodules(\"optimlite\"" in (Path(folder) / "hook-optimlite.py").read_text()
    assert module in project["tool"]["setuptools"]["packages"]


# The package ---------------------------------------------------------------------------------------------------------

def test_public_names_are_there() -> None:
    for name in ol.__all__:
        assert getattr(ol, name) is not None
    for name in ol.lr_scheduler.__all__:
        assert issubclass(getattr(ol.lr_scheduler, name), object)
    public = {name for name, value in vars(ol).items() if not name.startswith("_")
              and getattr(value, "__module__", "").startswith("optimlite")}
    assert public <= set(ol.__all__)


def test_the_version_stands_in_one_place() -> None:
    """`__version__`: what is built takes it from there, and the newest entry of the changelog is about it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in settings["project"]["dynamic"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "optimlite.__version__"}
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest is not None
    assert newest[1] == ol.__version__
    assert f'version: "{ol.__version__}"' in (ROOT / ".ci" / "conda" / "recipe.yaml").read_text(encoding="utf-8")


def test_python_with_optimizations_works() -> None:
    """-OO strips docstrings and asserts: neither may carry meaning."""
    code = "import numpy as np, optimlite as ol; a = np.ones(2); ol.Adam([a]).step(grads=[np.ones(2)]); print(a[0] < 1)"
    done = subprocess.run([sys.executable, "-OO", "-c", code], text=True, capture_output=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("True", "")
