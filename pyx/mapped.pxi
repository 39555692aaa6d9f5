# Files as the system has them in memory: whether they are there, and copies that don't fetch what they overwrite.

cdef extern from *:
    """
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    #include <immintrin.h>

    /* Whole lines of the target go to memory without being read first, which memcpy does of long arrays only. */
    __attribute__((target("avx"))) static void stream_lines(char* to, const char* from, size_t lines) {
        for (; lines--; to += 64, from += 64) {
            _mm_prefetch(from + 1024, _MM_HINT_T0);
            _mm256_stream_si256((__m256i*) to, _mm256_loadu_si256((const __m256i*) from));
            _mm256_stream_si256((__m256i*) (to + 32), _mm256_loadu_si256((const __m256i*) (from + 32)));
        }
        _mm_sfence();
    }

    static void stream_bytes(char* to, const char* from, size_t n) {
        const size_t head = -(uintptr_t) to & 63;
        __builtin_cpu_init();
        if (n > 64 && __builtin_cpu_supports("avx")) {
            memcpy(to, from, head);
            stream_lines(to + head, from + head, (n - head) / 64);
            to += n - (n - head) % 64, from += n - (n - head) % 64, n = (n - head) % 64;
        }
        memcpy(to, from, n);
    }
    #else
    static void stream_bytes(char* to, const char* from, size_t n) { memcpy(to, from, n); }
    #endif

    #if defined(__linux__)
    #include <sys/mman.h>
    #include <unistd.h>

    static int in_memory(const char* data, size_t n) {   /* by every 64th page, since each call costs */
        const uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE), end = (uintptr_t) data + n;
        uintptr_t at = (uintptr_t) data & -page;
        unsigned char there = 0;
        for (; at < end; at += 64 * page)
            if (mincore((void*) at, page, &there) || !(there & 1))
                return 0;
        return !mincore((void*) ((end - 1) & -page), page, &there) && (there & 1);
    }
    #else
    static int in_memory(const char* data, size_t n) { (void) data; (void) n; return 0; }
    #endif
    """
    void stream_bytes(char* to, const char* source, size_t n) noexcept nogil
    int in_memory(const char* data, size_t n) noexcept nogil


def stream(uint8_t[::1] to, const uint8_t[::1] source) -> None:
    """to = source, past the caches where the CPU can: for arrays that nobody reads at once."""
    if to.shape[0] != source.shape[0]:
        raise ValueError("`to` and `source` must have the same length")
    if to.shape[0]:
        with nogil:
            stream_bytes(<char*> &to[0], <const char*> &source[0], <size_t> to.shape[0])


def resident(const uint8_t[::1] data) -> bool:
    """Whether the bytes of a mapped file are in memory (Linux; elsewhere nobody can tell, and the answer is no)."""
    cdef bint there = True
    if data.shape[0]:
        with nogil:
            there = in_memory(<const char*> &data[0], <size_t> data.shape[0])
    return there
