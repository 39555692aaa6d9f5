# The driver, compiled once without CPU flags: a table of contents.
#
# It knows arrays, tables, spans and threads, and no update rule: see kernels.pyx for those.

import os

import numpy as np

cimport numpy as cnp
from cpython.dict cimport PyDict_GetItemWithError
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport PyObject
from libc.math cimport INFINITY, floor, frexp, ldexp
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memcpy, memset

cnp.import_array()

include "table.pxi"
include "cpu.pxi"
include "pool.pxi"
include "flush.pxi"
include "scalar.pxi"
include "leaf.pxi"
include "memory.pxi"
include "rows.pxi"
include "plan.pxi"
include "run.pxi"
include "driver.pxi"
include "reduce.pxi"
include "tiles.pxi"
include "maps.pxi"
include "exchange.pxi"
include "zeroing.pxi"
include "crc.pxi"
include "vectors.pxi"
