# What the Makefile asks Python: whether it suits, what to install, and to make the clone's package importable.
#
#   set_up.py check NAME [WANTED]      ends with one line if the interpreter called NAME can't do, or isn't WANTED
#   set_up.py requirements EXTRA ...   those of the package, of its extras, and of `build`, its build system
#   set_up.py path                     puts the clone on this environment's path
#
# The first is for any Python, so it is written for Python 2, too.

import os
import subprocess
import sys
import sysconfig

ASK = "import sys; print('%d.%d' % sys.version_info[:2])"


def check(name, wanted=None):
    found = "%d.%d" % sys.version_info[:2]
    venv = name == ".venv"
    if sys.version_info < (3, 11):
        sys.exit("optimlite needs Python >= 3.11, and %s is Python %s: %s" % (
            name, found, "remove it with `make clean`, and name another one" if venv
            else "name another one, as in `make PYTHON=python3.12 ...`"))
    if wanted:
        other = subprocess.check_output([wanted, "-c", ASK]).decode().strip()
        if other != found:
            sys.exit("%s is Python %s, and .venv was made with %s: remove it with `make clean`"
                     % (wanted, other, found))
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        sys.exit("optimlite is compiled, and the headers of Python %s are missing: install python%s-dev, or what your "
                 "system calls it" % (found, found))


def requirements(extras):
    import tomllib

    with open("pyproject.toml", "rb") as file:
        settings = tomllib.load(file)
    project = settings["project"]
    table = dict(project["optional-dependencies"], build=settings["build-system"]["requires"])
    wanted = project["dependencies"] + [requirement for extra in extras for requirement in table[extra]]
    print(" ".join(requirement.replace(" ", "") for requirement in wanted))


def add_path():
    with open(os.path.join(sysconfig.get_path("purelib"), "optimlite-clone.pth"), "w") as file:
        file.write(os.getcwd() + "\n")


if sys.argv[1] == "check":
    check(*sys.argv[2:])
elif sys.argv[1] == "requirements":
    requirements(sys.argv[2:])
else:
    add_path()
