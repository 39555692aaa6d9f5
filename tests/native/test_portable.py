"""What this machine's compiler leaves out of the C sources has the bits of what it takes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.paths import ROOT


@pytest.mark.skipif(not (shutil.which("cc") and (ROOT / "pyx").exists()), reason="needs a C compiler and the sources")
@pytest.mark.parametrize("macros", [(), ("-DOPTIMLITE_DOUBLE",)], ids=["float32", "float64"])
def test_sums_without_vector_types(macros: tuple[str, ...], tmp_path: Path) -> None:
    program, source = tmp_path / "lanes", ROOT / "tests" / "native" / "lanes.c"
    subprocess.run(["cc", "-O3", "-ffp-contract=off", "-Werror=incompatible-pointer-types", *macros, "-I", ROOT / "pyx",
                    source, "-o", program], check=True)
    assert subprocess.run([program]).returncode == 0


@pytest.mark.parametrize(("compiler", "flags"), [
    ("clang", ["-pthread"]), ("musl-gcc", ["-pthread", "-static"]), ("aarch64-linux-gnu-gcc", ["-pthread"]),
    ("x86_64-w64-mingw32-gcc", ["-static", "-lpthread"]),          # the test's own nanosleep, not the pool
])
def test_the_pool_is_compiled_for_other_systems(compiler: str, flags: list[str], tmp_path: Path) -> None:
    if not (shutil.which(compiler) and (ROOT / "pyx").exists()):
        pytest.skip(f"needs {compiler} and the sources")
    source = ROOT / "tests" / "native" / "pool.c"
    subprocess.run([compiler, "-std=c11", "-O2", "-Werror=incompatible-pointer-types", "-I", ROOT / "pyx", source,
                    "-o", tmp_path / "pool", *flags], check=True)
