# CRC-32's long part: 64 bytes at a time by carry-less multiplication, where the CPU has it.
#
# Four registers of 16 bytes each move over the data; multiplying one by x^(8*64) mod P (in two halves, by the constants
# below) and adding the bytes that it meets there keeps the remainder.  Gopal et al. 2009, "Fast CRC Computation for
# Generic Polynomials Using PCLMULQDQ Instruction".  What is left are 16 bytes with the same remainder as all of them,
# and zlib finishes.

cdef extern from *:
    """
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    #include <immintrin.h>
    #define FOLDING __attribute__((target("pclmul,sse4.1")))

    static int cpu_folds(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
    }

    FOLDING static inline __m128i fold(__m128i x, __m128i by, __m128i next) {
        __m128i low = _mm_clmulepi64_si128(x, by, 0x00), high = _mm_clmulepi64_si128(x, by, 0x11);
        return _mm_xor_si128(_mm_xor_si128(low, high), next);
    }

    FOLDING static void fold_all(const uint8_t* data, size_t blocks, uint8_t* rest) {
        const __m128i by_64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
        const __m128i by_16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
        const __m128i* from = (const __m128i*) data;
        __m128i a = _mm_xor_si128(_mm_loadu_si128(from), _mm_cvtsi32_si128(-1));     /* CRC-32 starts with ones */
        __m128i b = _mm_loadu_si128(from + 1), c = _mm_loadu_si128(from + 2), d = _mm_loadu_si128(from + 3);
        for (from += 4; --blocks; from += 4) {
            a = fold(a, by_64, _mm_loadu_si128(from));
            b = fold(b, by_64, _mm_loadu_si128(from + 1));
            c = fold(c, by_64, _mm_loadu_si128(from + 2));
            d = fold(d, by_64, _mm_loadu_si128(from + 3));
        }
        a = fold(fold(fold(a, by_16, b), by_16, c), by_16, d);
        _mm_storeu_si128((__m128i*) rest, a);
    }
    #else
    static int cpu_folds(void) { return 0; }
    static void fold_all(const uint8_t* data, size_t blocks, uint8_t* rest) { (void) data; (void) blocks; (void) rest; }
    #endif
    """
    bint cpu_folds() noexcept nogil
    void fold_all(const uint8_t* data, size_t blocks, uint8_t* rest) noexcept nogil


def crc_folds() -> bool:
    """Whether this CPU can do what `crc_fold` does."""
    return cpu_folds()


def crc_fold(const uint8_t[::1] data) -> bytes:
    """16 bytes that have, in a CRC-32 that starts at zero, the remainder of `data` (n * 64 bytes, n >= 1)."""
    if not cpu_folds() or data.shape[0] < 64 or data.shape[0] % 64:
        raise ValueError("`data` must have a positive multiple of 64 bytes, and the CPU must fold")
    cdef uint8_t[16] rest
    with nogil:
        fold_all(&data[0], <size_t> data.shape[0] // 64, rest)
    return (<const char*> rest)[:16]
