/* Products of vectors over whole rows of 16 lanes: every element is widened to double once, and each sum has the bits
   of `total` in lanes.pxd, whose lanes these are.

   With vector types, since gcc otherwise keeps some lanes in memory, where each addition waits for the store before it:
   that takes twice as long.  A function works on as many lanes at a time as leave all of its sums in registers. */

#if defined(_MSC_VER)
  #define OPTIMLITE_NOINLINE __declspec(noinline)
#else
  #define OPTIMLITE_NOINLINE __attribute__((noinline))
#endif

#if defined(__GNUC__)

#if defined(__SSE2__)
  #include <immintrin.h>
#endif
#if defined(__AVX__)
  #define WIDTH 4
#else
  #define WIDTH 2
#endif
#define LANES_AT_ONCE (2 * WIDTH)

typedef double wide __attribute__((vector_size(8 * WIDTH)));
typedef double wide_anywhere __attribute__((vector_size(8 * WIDTH), aligned(8), may_alias));
typedef real narrow_anywhere __attribute__((vector_size(sizeof(real) * WIDTH), aligned(sizeof(real)), may_alias));
#define LOAD(from) (*(const wide_anywhere *) (from))
#define STORE(to, value) (*(wide_anywhere *) (to) = (value))
#define KEEP(to, low, high) (STORE(to, low), STORE((to) + WIDTH, high))

#if defined(OPTIMLITE_DOUBLE)
  #define WIDEN LOAD
#elif defined(__AVX__)                   /* one instruction, where gcc makes four of the general form */
  #define WIDEN(from) _mm256_cvtps_pd(_mm_loadu_ps(from))
#elif defined(__SSE2__)
  #define WIDEN(from) _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64((const __m128i *) (from))))
#else
  #define WIDEN(from) __builtin_convertvector(*(const narrow_anywhere *) (from), wide)
#endif

#if defined(__FMA__) && defined(__AVX__) && !defined(OPTIMLITE_DOUBLE)   /* the product of floats is exact in double */
  #define ADD_PRODUCT(sum, x, y) ((sum) = _mm256_fmadd_pd(x, y, sum))
#else
  #define ADD_PRODUCT(sum, x, y) ((sum) += (x) * (y))
#endif

/* lanes of x.x, x.a */
static OPTIMLITE_NOINLINE void lanes_of_two(const real *x, const real *a, Py_ssize_t rows, double *lanes) {
    Py_ssize_t i;
    int j;
    for (j = 0; j < 16; j += LANES_AT_ONCE) {
        wide xx0 = {0}, xx1 = {0}, xa0 = {0}, xa1 = {0};
        for (i = j; i < 16 * rows; i += 16) {
            const wide x0 = WIDEN(x + i), x1 = WIDEN(x + i + WIDTH), a0 = WIDEN(a + i), a1 = WIDEN(a + i + WIDTH);
            ADD_PRODUCT(xx0, x0, x0);
            ADD_PRODUCT(xx1, x1, x1);
            ADD_PRODUCT(xa0, x0, a0);
            ADD_PRODUCT(xa1, x1, a1);
        }
        KEEP(lanes + j, xx0, xx1);
        KEEP(lanes + 16 + j, xa0, xa1);
    }
}

/* lanes of x.x, x.a, x.b */
static OPTIMLITE_NOINLINE void lanes_of_three(const real *x, const real *a, const real *b, Py_ssize_t rows,
                                              double *lanes) {
    Py_ssize_t i;
    int j;
    for (j = 0; j < 16; j += LANES_AT_ONCE) {
        wide xx0 = {0}, xx1 = {0}, xa0 = {0}, xa1 = {0}, xb0 = {0}, xb1 = {0};
        for (i = j; i < 16 * rows; i += 16) {
            const wide x0 = WIDEN(x + i), x1 = WIDEN(x + i + WIDTH);
            ADD_PRODUCT(xx0, x0, x0);
            ADD_PRODUCT(xx1, x1, x1);
            ADD_PRODUCT(xa0, x0, WIDEN(a + i));
            ADD_PRODUCT(xa1, x1, WIDEN(a + i + WIDTH));
            ADD_PRODUCT(xb0, x0, WIDEN(b + i));
            ADD_PRODUCT(xb1, x1, WIDEN(b + i + WIDTH));
        }
        KEEP(lanes + j, xx0, xx1);
        KEEP(lanes + 16 + j, xa0, xa1);
        KEEP(lanes + 32 + j, xb0, xb1);
    }
}

static OPTIMLITE_NOINLINE void lanes_of_fours(const real *const *x, const real *a, const real *b, Py_ssize_t n,
                                              const char *const *next, Py_ssize_t size, double *lanes) {
    const real *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
    const char *next0 = next[0], *next1 = next[1], *next2 = next[2], *next3 = next[3];
    Py_ssize_t i;
    int j;
    for (j = 0; j < 4; j += WIDTH) {
        wide xa0 = LOAD(lanes + j), xb0 = LOAD(lanes + 4 + j), xa1 = LOAD(lanes + 8 + j), xb1 = LOAD(lanes + 12 + j),
             xa2 = LOAD(lanes + 16 + j), xb2 = LOAD(lanes + 20 + j), xa3 = LOAD(lanes + 24 + j),
             xb3 = LOAD(lanes + 28 + j);
        for (i = j; i < n; i += 4) {
            const wide to_a = WIDEN(a + i), to_b = WIDEN(b + i);
            wide of_x = WIDEN(x0 + i);
            if (!(i & (64 / sizeof(real) - 1))) {        /* a line of the cache */
                real_prefetch(next0 + i * size), real_prefetch(next1 + i * size);
                real_prefetch(next2 + i * size), real_prefetch(next3 + i * size);
            }
            ADD_PRODUCT(xa0, of_x, to_a);
            ADD_PRODUCT(xb0, of_x, to_b);
            of_x = WIDEN(x1 + i);
            ADD_PRODUCT(xa1, of_x, to_a);
            ADD_PRODUCT(xb1, of_x, to_b);
            of_x = WIDEN(x2 + i);
            ADD_PRODUCT(xa2, of_x, to_a);
            ADD_PRODUCT(xb2, of_x, to_b);
            of_x = WIDEN(x3 + i);
            ADD_PRODUCT(xa3, of_x, to_a);
            ADD_PRODUCT(xb3, of_x, to_b);
        }
        STORE(lanes + j, xa0), STORE(lanes + 4 + j, xb0), STORE(lanes + 8 + j, xa1), STORE(lanes + 12 + j, xb1);
        STORE(lanes + 16 + j, xa2), STORE(lanes + 20 + j, xb2), STORE(lanes + 24 + j, xa3), STORE(lanes + 28 + j, xb3);
    }
}

#else                                    /* MSVC, which has no vector types */

#define EACH_LANE for (j = 0; j < 16; j++)

static void clear(double *lanes, int count) {
    while (count--) *lanes++ = 0.0;
}

static OPTIMLITE_NOINLINE void lanes_of_two(const real *x, const real *a, Py_ssize_t rows, double *lanes) {
    Py_ssize_t i;
    int j;
    clear(lanes, 32);
    for (i = 0; i < rows; i++, x += 16, a += 16) {
        EACH_LANE lanes[j] = lanes[j] + (double) x[j] * (double) x[j];
        EACH_LANE lanes[16 + j] = lanes[16 + j] + (double) x[j] * (double) a[j];
    }
}

static OPTIMLITE_NOINLINE void lanes_of_three(const real *x, const real *a, const real *b, Py_ssize_t rows,
                                              double *lanes) {
    Py_ssize_t i;
    int j;
    lanes_of_two(x, a, rows, lanes);
    clear(lanes + 32, 16);
    for (i = 0; i < rows; i++, x += 16, b += 16)
        EACH_LANE lanes[32 + j] = lanes[32 + j] + (double) x[j] * (double) b[j];
}

#endif

/* lanes += x.a, x.b for each of four rows x, of four lanes each.  Meanwhile what is read next is fetched, n elements
   of `size` bytes from each of `next`. */
static void lanes_of_rows(const real *const *x, const real *a, const real *b, Py_ssize_t n, const char *const *next,
                          Py_ssize_t size, double *lanes) {
    Py_ssize_t i = 0;
    int k;
#if defined(__GNUC__)
    i = n - n % 4;
    lanes_of_fours(x, a, b, i, next, size, lanes);
#else
    (void) next, (void) size;
#endif
    for (; i < n; i++)
        for (k = 0; k < 4; k++) {
            lanes[8 * k + i % 4] += (double) x[k][i] * (double) a[i];
            lanes[8 * k + 4 + i % 4] += (double) x[k][i] * (double) b[i];
        }
}
