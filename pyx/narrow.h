/* int8 and bfloat16 with AVX-512, or with AVX2, 32 elements at a time: the bits of the loops in formats.pxi, in two
   thirds of the instructions.  gcc masks before it packs, packs each operand of the last operation, and not what that
   yields, and writes no loop of a fixed number of turns out. */

#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__FMA__)
  #include "narrow512.h"
#elif defined(__AVX2__)
  #include <immintrin.h>
  #define OPTIMLITE_NARROW 1
  #define EIGHT(x, k) _mm256_loadu_si256((const __m256i *) ((x) + 8 * (k)))
  #define SIZE(x, k) _mm256_and_si256(EIGHT(x, k), _mm256_set1_epi32(0x7fffffff))
  #define LARGEST_OF_FOUR(x) _mm256_max_epi32(_mm256_max_epi32(SIZE(x, 0), SIZE(x, 1)), \
                                              _mm256_max_epi32(SIZE(x, 2), SIZE(x, 3)))
  /* packing saturates, so it keeps a sign, and that something isn't 0 */
  #define BYTES(a, b, c, d) _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d))

  static inline int32_t largest_lane(__m256i x) {
      __m128i four = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
      four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
      return _mm_cvtsi128_si32(_mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
  }

  static inline int32_t largest_in_registers(const float *x) {
      __m256i most = _mm256_setzero_si256();
      int i;
      for (i = 0; i < 128; i += 32)
          most = _mm256_max_epi32(most, LARGEST_OF_FOUR(x + i));
      return largest_lane(most);
  }

  static inline void code_in_registers(const float *x, uint8_t *code, float inverse, uint32_t noise,
                                       const uint32_t *spread, int is_signed) {
      const __m256i random = _mm256_set1_epi32((int) (noise >> 12)), low = _mm256_set1_epi16(255);
      const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
      const __m256 factor = _mm256_set1_ps(2 * inverse), two = _mm256_set1_ps(2.0f);
      __m256i a, b, packed, other;
      int i;
      /* beside 2, in the place of 1, a code is the last byte */
      #define CODE(k) _mm256_srli_epi32(_mm256_add_epi32(_mm256_xor_si256(random, EIGHT(spread + i, k)), \
          _mm256_castps_si256(_mm256_add_ps(_mm256_mul_ps(_mm256_castsi256_ps(SIZE(x + i, k)), factor), two))), 20)
      #define GIVEN(k) (is_signed ? EIGHT(x + i, k) : SIZE(x + i, k))
      for (i = 0; i < 128; i += 32) {
          a = _mm256_and_si256(_mm256_packs_epi32(CODE(0), CODE(1)), low);
          b = _mm256_and_si256(_mm256_packs_epi32(CODE(2), CODE(3)), low);
          packed = _mm256_packus_epi16(a, b);
          other = BYTES(GIVEN(0), GIVEN(1), GIVEN(2), GIVEN(3));
          packed = is_signed ? _mm256_or_si256(packed, _mm256_and_si256(other, _mm256_set1_epi8(-128)))
                             : _mm256_max_epu8(packed, _mm256_min_epu8(other, _mm256_set1_epi8(1)));
          _mm256_storeu_si256((__m256i *) (code + i), _mm256_permutevar8x32_epi32(packed, in_order));
      }
      #undef CODE
      #undef GIVEN
  }

  static inline void decode_in_registers(const int8_t *code, float unit, float *x, int is_signed) {
      const __m256i one = _mm256_set1_epi32(0x3f800000), kept = _mm256_set1_epi32(127 << 20);
      const __m256i top = _mm256_set1_epi32((int) 0x80000000);
      const __m256 factor = _mm256_set1_ps(unit), first = _mm256_set1_ps(1.0f);
      int i;
      #define DECODE(k) { \
          __m128i eight = _mm_loadl_epi64((const __m128i *) (code + i + 8 * (k))); \
          __m256i c = is_signed ? _mm256_cvtepi8_epi32(eight) : _mm256_cvtepu8_epi32(eight); \
          __m256i bits = _mm256_slli_epi32(c, 20); \
          __m256 z = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_add_epi32( \
              is_signed ? _mm256_and_si256(bits, kept) : bits, one)), first); \
          z = is_signed ? _mm256_or_ps(z, _mm256_castsi256_ps(_mm256_and_si256(c, top))) : z; \
          _mm256_storeu_ps(x + i + 8 * (k), _mm256_mul_ps(factor, z)); }
      for (i = 0; i < 128; i += 16) {
          DECODE(0)
          DECODE(1)
      }
      #undef DECODE
  }

  /* how many of n are done: the rest are fewer than 32 */
  static inline ptrdiff_t widen_in_registers(const uint16_t *half, float *x, ptrdiff_t n) {
      ptrdiff_t i = 0;
      #define SINGLES(k) _mm256_storeu_si256((__m256i *) (x + i + 8 * (k)), _mm256_slli_epi32( \
          _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) (half + i + 8 * (k)))), 16))
      for (; i + 32 <= n; i += 32) {
          SINGLES(0);
          SINGLES(1);
          SINGLES(2);
          SINGLES(3);
      }
      #undef SINGLES
      return i;
  }

  /* of a block, whose largest magnitude it returns */
  static inline int32_t halve_in_registers(const float *x, uint16_t *half, uint32_t noise, const uint32_t *spread) {
      const __m256i random = _mm256_set1_epi32((int) (noise >> 16));
      __m256i most = _mm256_setzero_si256();
      int i;
      #define HALF(k) _mm256_srli_epi32( \
          _mm256_add_epi32(EIGHT(x + i, k), _mm256_xor_si256(random, EIGHT(spread + i, k))), 16)
      #define HALVES(k) _mm256_storeu_si256((__m256i *) (half + i + 8 * (k)), \
          _mm256_permute4x64_epi64(_mm256_packus_epi32(HALF(k), HALF((k) + 1)), 0xd8))
      for (i = 0; i < 128; i += 32) {
          most = _mm256_max_epi32(most, LARGEST_OF_FOUR(x + i));
          HALVES(0);
          HALVES(2);
      }
      #undef HALF
      #undef HALVES
      return largest_lane(most);
  }
#else
  #define OPTIMLITE_NARROW 0
  #define largest_in_registers(x) 0
  #define code_in_registers(x, code, inverse, noise, spread, is_signed) ((void) 0)
  #define decode_in_registers(code, unit, x, is_signed) ((void) 0)
  #define widen_in_registers(half, x, n) 0
  #define halve_in_registers(x, half, noise, spread) 0
#endif
