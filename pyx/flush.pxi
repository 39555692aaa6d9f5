# Whether kernels flush subnormal numbers to zero while they run.

cdef extern from "flush.h" nogil:
    int flush_wanted
    int flush_supported() noexcept
    uint64_t flush_begin() noexcept
    void flush_end(uint64_t begun) noexcept


def set_flush_denormal(bint mode) -> bool:
    """Whether this CPU can do so; where it can't, nothing is changed."""
    global flush_wanted
    if flush_supported():
        flush_wanted = mode
    return flush_supported() != 0


def get_flush_denormal() -> bool:
    return flush_wanted != 0
