# Maps of whole arrays in place, over the pool: y = f(a, x, y) for each element.

ctypedef void (*MapBlock)(double a, const void* x, void* y, Py_ssize_t n) noexcept nogil

cdef struct MapPart:
    MapBlock map
    double a
    const char* x
    char* y
    Py_ssize_t n


cdef class Map:
    """A compiled map: Map(*MAPS[name]) of a kernel module."""
    cdef MapBlock map
    cdef readonly int itemsize

    def __init__(self, capsule, int itemsize):
        self.map = <MapBlock> PyCapsule_GetPointer(capsule, "optimlite.map")
        self.itemsize = itemsize


cdef void run_map(void* context, Py_ssize_t k) noexcept nogil:
    cdef MapPart* part = (<MapPart*> context) + k
    cdef uint64_t mode = flush_begin()
    part.map(part.a, part.x, part.y, part.n)
    flush_end(mode)


def apply(list terms not None, double a) -> None:
    """Runs [(map, x, y), …] over contiguous arrays; writes to each y.

    The caller has checked that x and y have the map's type, one shape and one layout, and that each y is writeable and
    overlaps no other array.
    """
    cdef Py_ssize_t n = 0, at
    cdef Map map
    cdef cnp.ndarray x, y
    cdef MapPart* parts
    for _, _, y in terms:
        n += blocks_of(cnp.PyArray_SIZE(y))
    parts = <MapPart*> PyMem_Malloc(n * sizeof(MapPart) + 1)
    if not parts:
        raise MemoryError
    n = 0
    for map, x, y in terms:
        at = 0
        while at < cnp.PyArray_SIZE(y):
            parts[n].map, parts[n].a, parts[n].n = map.map, a, min(<Py_ssize_t> BLOCK, cnp.PyArray_SIZE(y) - at)
            parts[n].x = cnp.PyArray_BYTES(x) + at * map.itemsize
            parts[n].y = cnp.PyArray_BYTES(y) + at * map.itemsize
            at += BLOCK
            n += 1
    if n < PAY:
        for at in range(n):
            run_map(parts, at)
    else:
        with nogil:
            pool_run(run_map, parts, n, max_threads)
    PyMem_Free(parts)
