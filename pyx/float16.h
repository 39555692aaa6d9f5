/* float16, eight at a time where the CPU converts them.  gcc would do so by itself for _Float16 with AVX-512 alone. */

#if defined(__F16C__)
  #include <immintrin.h>

  /* how many of n are done: the rest, fewer than eight, has the same bits by whole numbers */
  static inline ptrdiff_t singles_in_eights(const uint16_t *half, float *x, ptrdiff_t n) {
      ptrdiff_t i = 0;
      for (; i + 8 <= n; i += 8)
          _mm256_storeu_ps(x + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) (half + i))));
      return i;
  }

  static inline ptrdiff_t nearest_in_eights(const float *x, uint16_t *half, ptrdiff_t n) {
      ptrdiff_t i = 0;
      for (; i + 8 <= n; i += 8)
          _mm_storeu_si128((__m128i *) (half + i),
                           _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
      return i;
  }
#else
  #define singles_in_eights(half, x, n) 0
  #define nearest_in_eights(x, half, n) 0
#endif
