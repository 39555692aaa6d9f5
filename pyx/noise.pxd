# Random bits for rounding, from what a step and an element are, so that nothing else changes them.

from libc.stdint cimport uint32_t, uint64_t

from .table cimport SHARING, TILE, Work

cdef enum:
    GOLDEN = 0x9e3779b9          # 2^32 times the golden ratio


cdef inline uint64_t scattered(uint64_t x) noexcept nogil:
    # as splitmix64: each bit of the result depends on all of x
    x = (x ^ (x >> 30)) * <uint64_t> 0xbf58476d1ce4e5b9
    x = (x ^ (x >> 27)) * <uint64_t> 0x94d049bb133111eb
    return x ^ (x >> 31)


cdef inline uint32_t noise_of(const Work* a, Py_ssize_t entry, int k, Py_ssize_t at) noexcept nogil:
    # For the elements of a tensor from a block's first on: TILE of them have one number that is scattered.  Those of
    # state array k; of the parameter itself, SLOTS.
    if a.offsets != NULL:
        at += a.offsets[entry]
    cdef Py_ssize_t tile = at - at % TILE
    cdef uint64_t bits = scattered(a.rounding.key ^ (<uint64_t> k << 56) ^ <uint64_t> tile)
    return <uint32_t> (bits >> 32) + <uint32_t> ((at - tile) // SHARING) * <uint32_t> GOLDEN
