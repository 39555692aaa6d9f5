/* Products of one vector with several over whole rows of lanes: every element is widened to double once.

   In C, one function for each and never inlined: only then does gcc keep the lanes of all sums in registers.  The lanes
   are those of `total` in vector.pxi, so each sum has its bits. */

#if defined(_MSC_VER)
  #define OPTIMLITE_NOINLINE __declspec(noinline)
#else
  #define OPTIMLITE_NOINLINE __attribute__((noinline))
#endif
#define EACH_LANE for (j = 0; j < 16; j++)

/* lanes of x.x, x.a */
static OPTIMLITE_NOINLINE void lanes_of_two(const real *x, const real *a, Py_ssize_t rows, double *lanes) {
    double wide[16], xx[16], xa[16];
    Py_ssize_t i;
    int j;
    EACH_LANE xx[j] = 0.0;
    EACH_LANE xa[j] = 0.0;
    for (i = 0; i < rows; i++, x += 16, a += 16) {
        EACH_LANE wide[j] = (double) x[j];
        EACH_LANE xx[j] = xx[j] + wide[j] * wide[j];
        EACH_LANE xa[j] = xa[j] + wide[j] * (double) a[j];
    }
    EACH_LANE lanes[j] = xx[j];
    EACH_LANE lanes[16 + j] = xa[j];
}

/* lanes of x.x, x.a, x.b */
static OPTIMLITE_NOINLINE void lanes_of_three(const real *x, const real *a, const real *b, Py_ssize_t rows,
                                              double *lanes) {
    double wide[16], xx[16], xa[16], xb[16];
    Py_ssize_t i;
    int j;
    EACH_LANE xx[j] = 0.0;
    EACH_LANE xa[j] = 0.0;
    EACH_LANE xb[j] = 0.0;
    for (i = 0; i < rows; i++, x += 16, a += 16, b += 16) {
        EACH_LANE wide[j] = (double) x[j];
        EACH_LANE xx[j] = xx[j] + wide[j] * wide[j];
        EACH_LANE xa[j] = xa[j] + wide[j] * (double) a[j];
        EACH_LANE xb[j] = xb[j] + wide[j] * (double) b[j];
    }
    EACH_LANE lanes[j] = xx[j];
    EACH_LANE lanes[16 + j] = xa[j];
    EACH_LANE lanes[32 + j] = xb[j];
}

/* lanes of x.a, x.b; a and b are widened beforehand.  Meanwhile a quarter of `rows` lines is fetched from each of `next`:
   reads from several pages at a time are faster than those from one. */
static OPTIMLITE_NOINLINE void lanes_of_row(const real *x, const double *a, const double *b, Py_ssize_t rows,
                                            const real **next, double *lanes) {
    double wide[16], xa[16], xb[16];
    Py_ssize_t i;
    int j;
    EACH_LANE xa[j] = 0.0;
    EACH_LANE xb[j] = 0.0;
    for (i = 0; i < rows; i++, x += 16, a += 16, b += 16) {
        real_prefetch(next[i & 3] + (i >> 2) * 16);
        EACH_LANE wide[j] = (double) x[j];
        EACH_LANE xa[j] = xa[j] + wide[j] * a[j];
        EACH_LANE xb[j] = xb[j] + wide[j] * b[j];
    }
    EACH_LANE lanes[j] = xa[j];
    EACH_LANE lanes[16 + j] = xb[j];
}
