/* Products of vectors over whole rows of 16 lanes: every element is widened to double once, and each sum has the bits
   of `total` in lanes.pxd, whose lanes these are.

   With vector types, since gcc otherwise keeps some lanes in memory, where each addition waits for the store before it:
   that takes twice as long.  A function works on two registers of lanes at a time, so that up to eight sums of two
   vectors by two stay in registers. */

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
#define KEEP(to, low, high) (*(wide_anywhere *) (to) = (low), *(wide_anywhere *) ((to) + WIDTH) = (high))

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

/* 16 elements: a line of the cache, or two */
static inline void fetch(const real *from) {
    real_prefetch(from);
    if (sizeof(real) > 4)
        real_prefetch(from + 8);
}

/* lanes of x.a, x.b, y.a, y.b; a and b are widened beforehand, and two rows share what is loaded of them.  Meanwhile
   half of `rows` lines is fetched from each of `next`: reads from several pages at a time are faster than from one. */
static OPTIMLITE_NOINLINE void lanes_of_rows(const real *x, const real *y, const double *a, const double *b,
                                             Py_ssize_t rows, const real **next, double *lanes) {
    Py_ssize_t i, fetched = 0;
    int j;
    for (j = 0; j < 16; j += LANES_AT_ONCE) {
        wide xa0 = {0}, xa1 = {0}, xb0 = {0}, xb1 = {0}, ya0 = {0}, ya1 = {0}, yb0 = {0}, yb1 = {0};
        for (i = j; i < 16 * rows; i += 16, fetched++) {
            wide to_a = LOAD(a + i), to_b = LOAD(b + i), of_x = WIDEN(x + i), of_y = WIDEN(y + i);
            if (fetched < 2 * rows)
                fetch(next[fetched & 3] + (fetched >> 2) * 16);
            ADD_PRODUCT(xa0, of_x, to_a);
            ADD_PRODUCT(xb0, of_x, to_b);
            ADD_PRODUCT(ya0, of_y, to_a);
            ADD_PRODUCT(yb0, of_y, to_b);
            to_a = LOAD(a + i + WIDTH), to_b = LOAD(b + i + WIDTH);     /* not all loads first: registers are few */
            of_x = WIDEN(x + i + WIDTH), of_y = WIDEN(y + i + WIDTH);
            ADD_PRODUCT(xa1, of_x, to_a);
            ADD_PRODUCT(xb1, of_x, to_b);
            ADD_PRODUCT(ya1, of_y, to_a);
            ADD_PRODUCT(yb1, of_y, to_b);
        }
        KEEP(lanes + j, xa0, xa1);
        KEEP(lanes + 16 + j, xb0, xb1);
        KEEP(lanes + 32 + j, ya0, ya1);
        KEEP(lanes + 48 + j, yb0, yb1);
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

static OPTIMLITE_NOINLINE void lanes_of_rows(const real *x, const real *y, const double *a, const double *b,
                                             Py_ssize_t rows, const real **next, double *lanes) {
    Py_ssize_t i;
    int j;
    (void) next;
    clear(lanes, 64);
    for (i = 0; i < rows; i++, x += 16, y += 16, a += 16, b += 16) {
        EACH_LANE lanes[j] = lanes[j] + (double) x[j] * a[j];
        EACH_LANE lanes[16 + j] = lanes[16 + j] + (double) x[j] * b[j];
        EACH_LANE lanes[32 + j] = lanes[32 + j] + (double) y[j] * a[j];
        EACH_LANE lanes[48 + j] = lanes[48 + j] + (double) y[j] * b[j];
    }
}

#endif
