# The thread pool, as Python sees it.

cdef extern from "pool.h" nogil:
    """
    #ifndef OPTIMLITE_POOL_INCLUDED
    #define OPTIMLITE_POOL_INCLUDED
    #endif
    """
    ctypedef void (*pool_task)(void* context, Py_ssize_t part) noexcept nogil
    int pool_init() noexcept
    int pool_started() noexcept
    int pool_eager
    int max_threads
    void pool_run(pool_task task, void* context, Py_ssize_t parts, int threads) noexcept

if pool_init() != 0:
    raise MemoryError("the thread pool could not register its fork handler")


def set_num_threads(int threads) -> None:
    global max_threads
    max_threads = threads


def get_num_threads() -> int:
    return max_threads


def pool_size() -> int:
    """How many worker threads this process has started so far (0 before the first large step, and after a fork)."""
    return pool_started()


def set_pool_eager(bint eager) -> None:
    """For tests: whether every job is for all threads, also where that doesn't pay."""
    global pool_eager
    pool_eager = eager
