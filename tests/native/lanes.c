/* The sums of products.h with vector types and without, as MSVC gets them: exits with 0 if they have the same bits. */

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef ptrdiff_t Py_ssize_t;
#if defined(OPTIMLITE_DOUBLE)
typedef double real;
#else
typedef float real;
#endif
#define real_prefetch(p) ((void) (p))

#define lanes_of_two vectors_of_two
#define lanes_of_three vectors_of_three
#define lanes_of_rows vectors_of_rows
#include "products.h"
#undef lanes_of_two
#undef lanes_of_three
#undef lanes_of_rows
#undef OPTIMLITE_NOINLINE
#undef __GNUC__
#include "products.h"

enum { ROWS = 32, N = 16 * ROWS };

static real number(void) {
    return (real) ((rand() / (double) RAND_MAX - 0.5) * 1e3);
}

int main(void) {
    real x[N], y[N], b[N];
    double with[48], without[48];
    const real *rows[4] = {x, y, x + 1, y + 2};
    const char *next[4] = {(const char *) x, (const char *) x, (const char *) y, (const char *) y};
    for (int turn = 0; turn < 100; turn++) {
        for (int i = 0; i < N; i++) x[i] = number(), y[i] = number(), b[i] = number();
        vectors_of_two(x, y, ROWS, with);
        lanes_of_two(x, y, ROWS, without);
        if (memcmp(with, without, 32 * sizeof(double))) return 1;
        vectors_of_three(x, y, b, ROWS, with);
        lanes_of_three(x, y, b, ROWS, without);
        if (memcmp(with, without, 48 * sizeof(double))) return 2;
        memcpy(without, with, 32 * sizeof(double));      /* sums go on from what there is */
        vectors_of_rows(rows, b, y, N - 2 - turn % 8, next, sizeof(real), with);
        lanes_of_rows(rows, b, y, N - 2 - turn % 8, next, sizeof(real), without);
        if (memcmp(with, without, 32 * sizeof(double))) return 3;
    }
    return 0;
}
