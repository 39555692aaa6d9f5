# The update rules, compiled once per CPU level and float type: a table of contents.
#
# Nothing here holds Python objects, checks arguments or knows threads: see core.pyx for the driver.

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

RULES = {}                       # name: (capsule of the sweep, number of state slots, names of coefficients, item size)
REDUCTIONS = {}                  # name: (capsule, item size)
MAPS = {}                        # name: (capsule, item size)
READINGS = {}                    # name: (capsule, item size)

include "table.pxi"
include "types.pxi"
include "sweep.pxi"

cdef Common common_fields
cdef dict COMMON = common_fields

include "vector.pxi"
include "inplace.pxi"
include "algebra.pxi"
include "rules/sgd.pxi"
include "rules/adam.pxi"
include "rules/average.pxi"
include "rules/adagrad.pxi"
include "rules/adadelta.pxi"
include "rules/adamax.pxi"
include "rules/nadam.pxi"
include "rules/radam.pxi"
include "rules/rmsprop.pxi"
include "rules/rprop.pxi"
include "rules/asgd.pxi"
include "rules/adafactor.pxi"
include "rules/muon.pxi"
include "rules/put.pxi"
include "rules/traffic.pxi"
