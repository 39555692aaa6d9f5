# What checkpoints and averages need of arrays' bytes: their CRC-32, and arrays that change places.

cimport numpy as cnp
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

cnp.import_array()

# CRC-32's long part: 64 or 128 bytes at a time by carry-less multiplication, where the CPU has it.
#
# Four registers of 16 or 32 bytes each move over the data; multiplying each 16 bytes of them by x^(8 * distance) mod P
# (in two halves, by the constants below) and adding the bytes that it meets there keeps the remainder.  Gopal et al.
# 2009, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction".  What is left are 16 bytes with the
# same remainder as all of them, and zlib finishes.

cdef extern from *:
    """
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    #include <immintrin.h>
    #define FOLDING __attribute__((target("pclmul,sse4.1")))
    #define WIDE_FOLDING __attribute__((target("vpclmulqdq,pclmul,avx2")))

    static int cpu_folds(void) {                 /* bytes at a time */
        __builtin_cpu_init();
        if (!__builtin_cpu_supports("pclmul") || !__builtin_cpu_supports("sse4.1"))
            return 0;
        return __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx2") ? 32 : 16;
    }

    FOLDING static inline __m128i fold(__m128i x, __m128i by, __m128i next) {
        __m128i low = _mm_clmulepi64_si128(x, by, 0x00), high = _mm_clmulepi64_si128(x, by, 0x11);
        return _mm_xor_si128(_mm_xor_si128(low, high), next);
    }

    FOLDING static inline __m128i to_16(__m128i a, __m128i b, __m128i c, __m128i d) {       /* from 64 bytes */
        const __m128i by_16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
        return fold(fold(fold(a, by_16, b), by_16, c), by_16, d);
    }

    FOLDING static void fold_16(const uint8_t* data, size_t blocks, uint8_t* rest) {        /* of 64 bytes */
        const __m128i by_64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
        const __m128i* from = (const __m128i*) data;
        __m128i a = _mm_xor_si128(_mm_loadu_si128(from), _mm_cvtsi32_si128(-1));     /* CRC-32 starts with ones */
        __m128i b = _mm_loadu_si128(from + 1), c = _mm_loadu_si128(from + 2), d = _mm_loadu_si128(from + 3);
        for (from += 4; --blocks; from += 4) {
            a = fold(a, by_64, _mm_loadu_si128(from));
            b = fold(b, by_64, _mm_loadu_si128(from + 1));
            c = fold(c, by_64, _mm_loadu_si128(from + 2));
            d = fold(d, by_64, _mm_loadu_si128(from + 3));
        }
        _mm_storeu_si128((__m128i*) rest, to_16(a, b, c, d));
    }

    WIDE_FOLDING static inline __m256i fold_twice(__m256i x, __m256i by, const __m256i* next) {
        __m256i low = _mm256_clmulepi64_epi128(x, by, 0x00), high = _mm256_clmulepi64_epi128(x, by, 0x11);
        return _mm256_xor_si256(_mm256_xor_si256(low, high), _mm256_loadu_si256(next));
    }

    WIDE_FOLDING static void fold_32(const uint8_t* data, size_t blocks, uint8_t* rest) {   /* of 128 bytes */
        const __m256i by_128 = _mm256_set_epi64x(0x14a7fe880, 0x1e88ef372, 0x14a7fe880, 0x1e88ef372);
        const __m128i by_64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
        const __m256i* from = (const __m256i*) data;
        __m256i a = _mm256_xor_si256(_mm256_loadu_si256(from), _mm256_set_epi32(0, 0, 0, 0, 0, 0, 0, -1));
        __m256i b = _mm256_loadu_si256(from + 1), c = _mm256_loadu_si256(from + 2), d = _mm256_loadu_si256(from + 3);
        for (from += 4; --blocks; from += 4) {
            a = fold_twice(a, by_128, from);
            b = fold_twice(b, by_128, from + 1);
            c = fold_twice(c, by_128, from + 2);
            d = fold_twice(d, by_128, from + 3);
        }
        _mm_storeu_si128((__m128i*) rest, to_16(
            fold(_mm256_castsi256_si128(a), by_64, _mm256_castsi256_si128(c)),
            fold(_mm256_extracti128_si256(a, 1), by_64, _mm256_extracti128_si256(c, 1)),
            fold(_mm256_castsi256_si128(b), by_64, _mm256_castsi256_si128(d)),
            fold(_mm256_extracti128_si256(b, 1), by_64, _mm256_extracti128_si256(d, 1))));
    }
    #else
    static int cpu_folds(void) { return 0; }
    static void fold_16(const uint8_t* data, size_t blocks, uint8_t* rest) { (void) data; (void) blocks; (void) rest; }
    static void fold_32(const uint8_t* data, size_t blocks, uint8_t* rest) { (void) data; (void) blocks; (void) rest; }
    #endif
    """
    int cpu_folds() noexcept nogil
    void fold_16(const uint8_t* data, size_t blocks, uint8_t* rest) noexcept nogil
    void fold_32(const uint8_t* data, size_t blocks, uint8_t* rest) noexcept nogil


def crc_folds() -> int:
    """The widest registers that `crc_fold` can use on this CPU: 32 bytes, 16, or 0 for none."""
    return cpu_folds()


def crc_fold(data, int width) -> bytes:
    """16 bytes that have, in a CRC-32 that starts at zero, the remainder of `data` (n * 4 * width bytes, n >= 1)."""
    cdef Py_buffer view
    cdef uint8_t[16] rest
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if width not in (16, 32) or width > cpu_folds() or view.len == 0 or view.len % (4 * width):
            raise ValueError("`data` must have a positive multiple of 4 * `width` bytes, and the CPU must fold that "
                             "wide")
        with nogil:
            if width == 32:
                fold_32(<const uint8_t*> view.buf, <size_t> view.len // 128, rest)
            else:
                fold_16(<const uint8_t*> view.buf, <size_t> view.len // 64, rest)
    finally:
        PyBuffer_Release(&view)
    return (<const char*> rest)[:16]


# Arrays change places, or are copied: in one call, so that an interrupt finds all of them changed or none.

cdef void exchange_bytes(char* a, char* b, Py_ssize_t n) noexcept nogil:
    cdef char[4096] between
    cdef Py_ssize_t at = 0, part
    while at < n:
        part = min(<Py_ssize_t> sizeof(between), n - at)
        memcpy(between, a + at, part)
        memcpy(a + at, b + at, part)
        memcpy(b + at, between, part)
        at += part


cdef void exchange_axes(char* a, const cnp.npy_intp* a_strides, char* b, const cnp.npy_intp* b_strides,
                        const cnp.npy_intp* shape, int axes, Py_ssize_t itemsize) noexcept nogil:
    cdef Py_ssize_t i
    if axes == 0:
        exchange_bytes(a, b, itemsize)
    elif axes == 1 and a_strides[0] == b_strides[0] == itemsize:
        exchange_bytes(a, b, shape[0] * itemsize)
    else:
        for i in range(shape[0]):
            exchange_axes(a + i * a_strides[0], a_strides + 1, b + i * b_strides[0], b_strides + 1, shape + 1,
                          axes - 1, itemsize)


def exchange(list pairs not None) -> None:
    """Exchanges the values of each pair of arrays, which have one dtype and shape, any strides, and share no memory."""
    cdef cnp.ndarray a, b
    cdef Py_ssize_t n
    cdef bint alike
    for a, b in pairs:
        n = cnp.PyArray_NBYTES(a)
        alike = (cnp.PyArray_IS_C_CONTIGUOUS(a) and cnp.PyArray_IS_C_CONTIGUOUS(b)
                 or cnp.PyArray_IS_F_CONTIGUOUS(a) and cnp.PyArray_IS_F_CONTIGUOUS(b))
        with nogil:
            if alike:
                exchange_bytes(cnp.PyArray_BYTES(a), cnp.PyArray_BYTES(b), n)
            else:
                exchange_axes(cnp.PyArray_BYTES(a), cnp.PyArray_STRIDES(a), cnp.PyArray_BYTES(b),
                              cnp.PyArray_STRIDES(b), cnp.PyArray_DIMS(a), cnp.PyArray_NDIM(a),
                              cnp.PyArray_ITEMSIZE(a))
