/* The pool with helpers that lose their CPU within a part: every part runs once, and the next jobs go without them. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
typedef ptrdiff_t Py_ssize_t;
#include "pool.h"

enum { PARTS = 64 };
#define PART_NS 10000
#define LATE_NS 3000000

static _Thread_local int caller;
static atomic_int ran[PARTS];
static atomic_int helped, late;  /* parts of others in a job; whether they lose their CPU */

static void work(void *context, Py_ssize_t part) {
    (void)context;
    int64_t until = os_clock() + PART_NS;
    if (!caller) {
        struct timespec pause = {0, LATE_NS};
        helped++;
        if (late) nanosleep(&pause, NULL);
    }
    while (os_clock() < until);
    ran[part]++;
}

static int jobs(int count, int threads) {        /* returns in how many of them others took part */
    int found = 0;
    for (int k = 0; k < count; k++) {
        memset(ran, 0, sizeof ran);
        helped = 0;
        pool_run(work, NULL, PARTS, threads);
        for (int part = 0; part < PARTS; part++)
            if (ran[part] != 1) return printf("part %d ran %d times\n", part, ran[part]), -1;
        found += helped > 0;
    }
    return found;
}

int main(void) {
    caller = 1;
    if (pool_init() || jobs(20, 3) < 0) return 1;
    late = pool_eager = 1;                       /* others take part as soon as they get a CPU */
    int tries = 0, found = 0;
    while (!found && tries++ < 10000) found = jobs(1, 3);
    if (found < 1 || !pool.alone) return printf("a late helper is not held against it: %d, %d\n", found, tries), 2;
    pool_eager = 0;                              /* alone for POOL_CAUTION times as long as was lost */
    found = jobs(LATE_NS / PART_NS / PARTS * POOL_CAUTION / 4, 3);
    if (found) return printf("after a late helper others took part in %d jobs\n", found), 3;
    late = tries = 0;
    while (pool.alone && tries++ < 2 * POOL_DEBT_NS / PARTS / PART_NS * POOL_CAUTION) jobs(1, 3);
    if (pool.alone) return puts("help is not tried again"), 4;
    late = pool_eager = 1;                       /* callers sleep through it and are woken */
    return jobs(10, 5) < 0 || jobs(10, 2) < 0 ? 5 : 0;
}
