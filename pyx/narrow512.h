/* int8 and bfloat16 with AVX-512, 64 or 32 elements at a time: the bits of the loops in formats.pxi.

   Every product here is of a power of two, and 1 is taken from what is at least 1 and has few bits: one fused operation
   rounds as two do. */

#include <immintrin.h>
#define OPTIMLITE_NARROW 1
#define SIXTEEN(x, k) _mm512_loadu_si512((x) + 16 * (k))
#define SIZE(x) _mm512_and_si512(x, _mm512_set1_epi32(0x7fffffff))
#define A_OR_B_AND_C 0xf8

static inline __m512i larger(__m512i most, const float *x) {
    return _mm512_max_epi32(most, _mm512_max_epi32(SIZE(SIXTEEN(x, 0)), SIZE(SIXTEEN(x, 1))));
}

static inline int32_t largest_in_registers(const float *x) {
    __m512i one = larger(_mm512_setzero_si512(), x), other = larger(_mm512_setzero_si512(), x + 32);
    return _mm512_reduce_max_epi32(_mm512_max_epi32(larger(one, x + 64), larger(other, x + 96)));
}

static inline __m512i one_code(__m512i x, __m512i random, __m512 factor, int is_signed) {
    const __m512i size = SIZE(x);
    /* beside 2, in the place of 1, a code is the last byte; `random` takes the 2 away */
    const __m512i code = _mm512_srli_epi32(_mm512_add_epi32(random, _mm512_castps_si512(
        _mm512_fmadd_ps(_mm512_castsi512_ps(size), factor, _mm512_set1_ps(2.0f)))), 20);
    return is_signed ? _mm512_ternarylogic_epi32(code, _mm512_srli_epi32(x, 24), _mm512_set1_epi32(128), A_OR_B_AND_C)
                     : _mm512_max_epi32(code, _mm512_min_epu32(size, _mm512_set1_epi32(1)));
}

static inline void code_in_registers(const float *x, uint8_t *code, float inverse, uint32_t noise,
                                     const uint32_t *spread, int is_signed) {
    const __m512i random = _mm512_set1_epi32((int) ((noise >> 12) | 0xc0000000u));
    const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512 factor = _mm512_set1_ps(2 * inverse);
    int i;
    #define CODE(k) one_code(SIXTEEN(x + i, k), _mm512_xor_si512(random, SIXTEEN(spread + i, k)), factor, is_signed)
    for (i = 0; i < 128; i += 64)
        _mm512_storeu_si512(code + i, _mm512_permutexvar_epi32(in_order, _mm512_packus_epi16(
            _mm512_packus_epi32(CODE(0), CODE(1)), _mm512_packus_epi32(CODE(2), CODE(3)))));
    #undef CODE
}

static inline void decode_in_registers(const int8_t *code, float unit, float *x, int is_signed) {
    const __m512i one = _mm512_set1_epi32(0x3f800000), kept = _mm512_set1_epi32(127 << 20);
    const __m512 factor = _mm512_set1_ps(unit);
    int i;
    for (i = 0; i < 128; i += 16) {
        const __m128i eight = _mm_loadu_si128((const __m128i *) (code + i));
        const __m512i c = is_signed ? _mm512_cvtepi8_epi32(eight) : _mm512_cvtepu8_epi32(eight);
        const __m512i bits = _mm512_slli_epi32(c, 20);
        const __m512i z = _mm512_castps_si512(_mm512_fmsub_ps(_mm512_castsi512_ps(_mm512_add_epi32(
            is_signed ? _mm512_and_si512(bits, kept) : bits, one)), factor, factor));
        _mm512_storeu_si512(x + i, is_signed ? _mm512_ternarylogic_epi32(
            z, c, _mm512_set1_epi32((int) 0x80000000u), A_OR_B_AND_C) : z);
    }
}

/* how many of n are done: the rest are fewer than 32 */
static inline ptrdiff_t widen_in_registers(const uint16_t *half, float *x, ptrdiff_t n) {
    ptrdiff_t i = 0;
    #define SINGLES(k) _mm512_storeu_si512(x + i + 16 * (k), _mm512_slli_epi32( \
        _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) (half + i + 16 * (k)))), 16))
    for (; i + 32 <= n; i += 32) {
        SINGLES(0);
        SINGLES(1);
    }
    #undef SINGLES
    return i;
}

/* of a block, whose largest magnitude it returns */
static inline int32_t halve_in_registers(const float *x, uint16_t *half, uint32_t noise, const uint32_t *spread) {
    const __m512i random = _mm512_set1_epi32((int) (noise >> 16));
    const __m512i in_order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    __m512i most = _mm512_setzero_si512();
    int i;
    #define HALF(k) _mm512_srli_epi32( \
        _mm512_add_epi32(SIXTEEN(x + i, k), _mm512_xor_si512(random, SIXTEEN(spread + i, k))), 16)
    for (i = 0; i < 128; i += 32) {
        most = larger(most, x + i);
        _mm512_storeu_si512(half + i, _mm512_permutexvar_epi64(in_order, _mm512_packus_epi32(HALF(0), HALF(1))));
    }
    #undef HALF
    return _mm512_reduce_max_epi32(most);
}
