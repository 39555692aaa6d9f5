# The extension modules: the driver once, and one source of kernels for several CPU levels and two float types.
#
# Environment: OPTIMLITE_SANITIZE=address,undefined or =thread builds with sanitizers and debug information;
# OPTIMLITE_COVERAGE=1 without optimisation, counting how often each line of C runs (gcc).

import os
import platform
import sys
from glob import glob

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SANITIZE = os.environ.get("OPTIMLITE_SANITIZE", "")
COVERAGE = os.environ.get("OPTIMLITE_COVERAGE", "") == "1"
X86 = platform.machine().lower() in ("x86_64", "amd64")
LEVELS = {"baseline": [], "v3": ["-march=x86-64-v3"], "v4": ["-march=x86-64-v4"]} if X86 else {"baseline": []}
if sys.platform == "win32":
    LEVELS = {"baseline": []}    # MSVC has no such levels
TYPES = {"f32": [], "f64": [("OPTIMLITE_DOUBLE", "1")]}

# The same bits on every level: no contraction to fused multiply-add, nothing of -ffast-math.
UNIX_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-Wno-unused-function"]
KERNEL_FLAGS = ["-Werror=double-promotion"]
MSVC_FLAGS = ["/O2", "/fp:precise"]
DIRECTIVES = {
    "language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True, "initializedcheck": False,
}


def extension(name, source, macros=(), flags=()):
    [result] = cythonize([Extension(f"optimlite.{name}", [source], include_dirs=["pyx", np.get_include()])],
                         build_dir=f"build/pyx/{name}", compiler_directives=DIRECTIVES)
    # After cythonize, which keeps the settings of the first extension made from a source for all of them.
    result.define_macros = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
                            ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"), *macros]
    result.depends = [*result.depends, *glob("pyx/*.h"), *glob("pyx/**/*.pxi", recursive=True)]
    result.level_flags = list(flags)
    return result


class Build(build_ext):
    """Chooses the flags by the compiler at hand."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extension(self, ext):
        if self.compiler.compiler_type == "msvc":
            ext.extra_compile_args = [*MSVC_FLAGS, "/std:c11"]
        else:
            ext.extra_compile_args = [*UNIX_FLAGS, *ext.level_flags]
            if SANITIZE:
                ext.extra_compile_args += ["-g", "-fno-omit-frame-pointer", f"-fsanitize={SANITIZE}"]
                ext.extra_link_args = [f"-fsanitize={SANITIZE}"]
            elif COVERAGE:       # uncalled functions count too; threads must not lose counts
                ext.extra_compile_args += ["-O0", "-g0", "--coverage", "-fprofile-update=atomic",
                                           "-fkeep-static-functions", "-DCYTHON_INLINE="]
                ext.extra_link_args = ["--coverage"]
            else:
                ext.extra_compile_args += ["-g0"]
                ext.extra_link_args = [] if sys.platform == "darwin" else ["-s"]
        super().build_extension(ext)


setup(
    ext_modules=[extension("_core", "pyx/core.pyx")] + [
        extension(f"_kernels_{kind}_{level}", "pyx/kernels.pyx", macros, [*KERNEL_FLAGS, *flags])
        for kind, macros in TYPES.items() for level, flags in LEVELS.items()
    ],
    cmdclass={"build_ext": Build},
)
