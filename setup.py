# The extension modules: the engine's once, and one source of kernels for several CPU levels and two float types.
#
# Environment: OPTIMLITE_LEVELS=v3 and OPTIMLITE_TYPES=f32 build these kernels alone, in a quarter of the time;
# OPTIMLITE_SANITIZE=address,undefined or =thread builds with sanitizers and debug information;
# OPTIMLITE_COVERAGE=1 without optimisation, counting how often each line of C runs (gcc).

import os
import platform
import re
import subprocess
import sys
from glob import glob
from pathlib import Path
from zlib import crc32

if sys.version_info < (3, 11):   # said before anything that older Pythons lack
    raise SystemExit(f"optimlite needs Python >= 3.11, and this is {platform.python_version()}")

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SANITIZE = os.environ.get("OPTIMLITE_SANITIZE", "")
COVERAGE = os.environ.get("OPTIMLITE_COVERAGE", "") == "1"
X86 = platform.machine().lower() in ("x86_64", "amd64")
# What vectorises the kernels' loops, one after the other.  A second, narrower vector loop for the last few elements, or
# each of these written out, makes the modules two fifths larger and no faster.
VECTORS = ["-ftree-vectorize", "-fvect-cost-model=dynamic", "--param=vect-epilogues-nomask=0"]
# AVX-512 with vectors of 256 bits: NumPy's arrays begin anywhere in a line of the cache, most loads of 512 would be
# of two lines, and roots and quotients take as long.  Steps of small and medium arrays take a fifteenth less time.
LEVELS = {"baseline": VECTORS, "v3": [*VECTORS, "-march=x86-64-v3"],
          "v4": [*VECTORS, "-march=x86-64-v4", "-mprefer-vector-width=256"]} if X86 else {"baseline": VECTORS}
SMALLER = ["-fno-tree-pre", *(f"-fno-align-{what}" for what in ("functions", "loops", "jumps", "labels"))]
# The modules that most programs run: each loop once with coupled decay and once without, its last elements written out,
# and of the rest of -O3 what spares a step of many small arrays its time, up to a seventh of it, for few bytes.
FASTER = ["-O3", "--param=max-completely-peel-times=4", "--param=max-completely-peeled-insns=48", *SMALLER,
          "-fno-ipa-cp-clone", "-fno-inline-functions", "-fno-version-loops-for-strides", "-fno-loop-unroll-and-jam",
          "-fno-tree-loop-distribution"]
FOR_SPEED = ("v3", "v4") if X86 else ("baseline",)
# Every rule must be inlined into its loop over elements: a call for each one takes ten times as long.  By default gcc
# stops inlining once a file has grown by 40 %, which a file of so many rules reaches.
INLINED = ["--param=large-unit-insns=1000000"]
# The driver, by size.  What each step runs is compiled for speed, a fourteenth of a step of one small parameter; and in
# what runs for each parameter short functions are inlined, for a twentieth of a step with new gradients.
SMALL = ["-Os"]
SHORT = [*SMALL, "-finline-small-functions", "--param=max-inline-insns-size=8"]
QUICK = ["-O2", "-fno-inline-functions-called-once", "-freorder-blocks-algorithm=simple", *SMALLER]
DRIVER_FLAGS = {"steps": QUICK, "plans": SHORT}
GCC_FLAGS = {*VECTORS, *FASTER, *INLINED, *SHORT[1:], *QUICK[1:], "-fvect-cost-model=very-cheap",
             "-Werror=double-promotion"}         # which clang finds in intended ones
# No padding between code and data in the file, and no hash of the whole: a thousandth of the wheel.
PACKED = ["-Wl,-z,noseparate-code", "-Wl,--build-id=none"]
# Doubles on x86-64 CPUs from before 2013, where a vector has two: loops whose length is known alone are vectorised, and
# a third of the module goes.
FEW_VECTORS = {("f64", "baseline"): ["-fvect-cost-model=very-cheap"]} if X86 else {}
SAME = {("f64", "v4"): "v3"}     # as native/dispatch.py has it, with the reason
if sys.platform == "win32":
    LEVELS = {"baseline": []}    # MSVC has no such levels
MODULES = ("runtime", "parameters", "plans", "steps", "gradients", "vectors", "files")
TYPES = {"f32": [], "f64": [("OPTIMLITE_DOUBLE", "1")]}


def chosen(table, variable):
    """The rows of a table that an environment variable asks for; all of them by default."""
    wanted = os.environ.get(variable, "").replace(",", " ").split() or table
    if unknown := set(wanted) - set(table):
        raise SystemExit(f"`{variable}` must be some of {', '.join(table)}, got {', '.join(sorted(unknown))}")
    return {name: table[name] for name in wanted}


if fast := [flag for variable in ("CFLAGS", "CPPFLAGS", "LDFLAGS") for flag in os.environ.get(variable, "").split()
            if flag in ("-ffast-math", "-Ofast", "-funsafe-math-optimizations")]:
    raise SystemExit(f"`CFLAGS` must leave floating point as it is, got {' '.join(fast)}: other bits, and subnormal "
                     f"numbers flushed to zero in the whole process; unset it")

# The same bits on every level: no contraction to fused multiply-add, nothing of -ffast-math.
UNIX_FLAGS = ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-Wno-unused-function",
              "-fno-asynchronous-unwind-tables"]         # nothing throws through C; a tenth of each module
KERNEL_FLAGS = ["-O2", *INLINED, "-Werror=double-promotion"]
MSVC_FLAGS = ["/O2", "/fp:precise"]
DIRECTIVES = {
    "language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True, "initializedcheck": False,
    # a third of the driver's size: functions that can be bound to classes, and pickling that every class refuses
    "binding": False, "auto_pickle": False,
    # different optimizers in different threads, as docs/platforms.md says
    "freethreading_compatible": True,
}
# Rules that are no optimizer's are for tests and benchmarks, which run on kernels that were built in place, or
# with sanitizers.
WHERE = "in_place" if "--inplace" in sys.argv or SANITIZE else "shipped"
BESIDE = {"in_place": ["traffic", "probe"], "shipped": []}


def staged():
    """Where Cython finds declarations: under the package of the compiled modules, which the folder pyx/ is not."""
    folder = Path("build/pyx/declarations/optimlite/native")
    folder.mkdir(parents=True, exist_ok=True)
    for package in (folder, folder.parent):
        (package / "__init__.pxd").touch()
    sources = {source.name: source.read_bytes() for source in Path("pyx").glob("*.pxd")}
    for copy in folder.glob("[a-z]*.pxd"):
        if copy.name not in sources:
            copy.unlink()
    for name, text in sources.items():
        if not (folder / name).exists() or (folder / name).read_bytes() != text:     # else all is compiled again
            (folder / name).write_bytes(text)
    return str(folder.parents[1])


def declarations():
    """A number for what driver and kernels must both be built from: native/dispatch.py tells if they weren't."""
    shared = [*sorted(glob("pyx/*.pxd")), f"build/pyx/{WHERE}/coefficients.pxi"]
    return f"{crc32(b''.join(Path(name).read_bytes() for name in shared)):08x}"


def write(path, text):
    """Nothing, where it is written already: a newer file would be compiled again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def coefficients(sources):
    """The names in each struct of a rule file, as a line of text: in C they are gone."""
    for source in sources:
        for struct, body in re.findall(r"^cdef struct (\w+):.*\n((?:    \S.*\n)+)", source, re.MULTILINE):
            fields = [line.split("#")[0].split() for line in body.splitlines()]
            if {kind for kind, *_ in fields} not in ({"real"}, {"double"}) or {len(field) for field in fields} != {2}:
                raise SystemExit(f"struct {struct} of a rule must have numbers alone, all `real` or all `double`, a "
                                 f"line for each, got\n{body}")
            yield f"{struct} {' '.join(name for _, name in fields)}"


def generated():
    """Where Cython finds what is made here: the rules that aren't shipped, or none, and the names of coefficients."""
    folder = Path("build/pyx", WHERE)
    folder.mkdir(parents=True, exist_ok=True)
    rules = {Path(name).stem: Path(name).read_text(encoding="utf-8") for name in sorted(glob("pyx/rules/*.pxi"))}
    write(folder / "beside.pxi", "\n".join(rules[name] for name in BESIDE[WHERE]))
    [common] = re.findall(r"^cdef struct Common:.*\n(?:    \S.*\n)+", Path("pyx/sweep.pxd").read_text("utf-8"), re.M)
    built = [text for name, text in rules.items() if name not in BESIDE["in_place"] or name in BESIDE[WHERE]]
    lines = "\n".join(coefficients([common, *built]))
    write(folder / "coefficients.pxi",
          f'cdef dict COEFFICIENTS = dict([line.split(" ", 1) for line in """{lines}""".splitlines()])\n')
    return str(folder)


def extension(name, source, macros=(), flags=()):
    [result] = cythonize(
        [Extension(f"optimlite.native.{name}", [source], include_dirs=["pyx", np.get_include()])],
        build_dir=f"build/pyx/{WHERE}/{name}", include_path=[staged(), generated()], compiler_directives=DIRECTIVES)
    # After cythonize, which keeps the settings of the first extension made from a source for all of them.
    result.define_macros = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
                            ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
                            ("OPTIMLITE_DECLARATIONS", declarations()), *macros]
    result.depends = [*result.depends, "setup.py", *glob("pyx/*.h"), *glob("pyx/*.px[di]"), *glob("pyx/rules/*.pxi")]
    result.level_flags = list(flags)
    return result


class Build(build_ext):
    """Chooses the flags by the compiler at hand."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def is_clang(self):
        """Also where it is called cc or gcc, as on macOS."""
        said = subprocess.run([*self.compiler.compiler_so[:1], "--version"], capture_output=True, text=True)
        return "clang" in said.stdout

    def build_extension(self, ext):
        if self.compiler.compiler_type == "msvc":
            ext.extra_compile_args = [*MSVC_FLAGS, "/std:c11", "/experimental:c11atomics"]
        else:
            ext.extra_compile_args = [*UNIX_FLAGS, *ext.level_flags]
            if self.is_clang():          # it vectorises by itself, and knows the other flags as little
                ext.extra_compile_args = [flag for flag in ext.extra_compile_args if flag not in GCC_FLAGS]
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
                if sys.platform == "linux":
                    ext.extra_link_args += PACKED
        super().build_extension(ext)


def kernels():
    """The types and levels to build, each once."""
    return dict.fromkeys((kind, SAME.get((kind, level), level)) for kind in chosen(TYPES, "OPTIMLITE_TYPES")
                         for level in chosen(LEVELS, "OPTIMLITE_LEVELS"))


def extensions():
    return [extension(name, f"pyx/{name}.pyx", flags=DRIVER_FLAGS.get(name, SMALL)) for name in MODULES] + [
        extension(f"kernels_{kind}_{level}", "pyx/kernels.pyx", TYPES[kind],
                  [*KERNEL_FLAGS, *LEVELS[level], *(FASTER if kind == "f32" and level in FOR_SPEED else SMALLER),
                   *FEW_VECTORS.get((kind, level), [])])
        for kind, level in kernels()]


LISTS = {"sdist", "egg_info", "dist_info"} & set(sys.argv)       # needs no C, for which Cython takes a minute

setup(ext_modules=[] if LISTS else extensions(), cmdclass={"build_ext": Build})
