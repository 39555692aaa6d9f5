# Random bits for rounding, from what a step and an element are, so that nothing else changes them.

from libc.stdint cimport uint64_t

cdef enum:
    GOLDEN = 0x9e3779b9          # 2^32 times the golden ratio


cdef inline uint64_t scattered(uint64_t x) noexcept nogil:
    # as splitmix64: each bit of the result depends on all of x
    x = (x ^ (x >> 30)) * <uint64_t> 0xbf58476d1ce4e5b9
    x = (x ^ (x >> 27)) * <uint64_t> 0x94d049bb133111eb
    return x ^ (x >> 31)
