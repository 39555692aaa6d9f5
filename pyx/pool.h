/* A small pool of native threads that runs one job at a time: in C, because Cython has no atomics.
 *
 * A job is `parts` independent calls task(context, part).  Each thread owns a contiguous share of the parts and takes
 * from the others' shares when its own is done, so a thread that wakes late or loses its CPU between two parts costs
 * little: the caller never waits for one that has not started.  Which thread runs a part never changes a result.
 *
 * The gate is one word: generation << 32 | OPEN | WAITING | number of workers inside.  A worker enters by
 * compare-and-swap while the gate is open; the caller closes it when no part is left, and waits until nobody is inside.
 *
 * Help is asked for where it pays.
 * - An awake worker costs nothing: it sees the open gate.  After a job it stays awake for a while.
 * - A sleeping one costs a call, and comes when a part of the job is done: it is called if what is left is long enough,
 *   measured against how long waking took so far; and where jobs follow each other so quickly that it stays awake.
 * - One that loses its CPU within a part costs milliseconds: nobody can take over half a part.  So each job's gain or
 *   loss is counted: the parts that others did, at the caller's pace, less its time for calling and waiting.  Who has
 *   lost too much runs jobs alone until their time is many times the loss, then tries again.  However busy the CPUs
 *   are, little is lost on average; and a caller that runs alone is as fast as with one thread.
 */
#ifndef OPTIMLITE_POOL_H
#define OPTIMLITE_POOL_H

#include <stdatomic.h>
#include <stdint.h>

#include "shared.h"
#include "system.h"

typedef void (*pool_task)(void *context, Py_ssize_t part);

static shared_int max_threads = 1;       /* read where Python's lock is not held */
static shared_int pool_eager = 0;        /* for tests: every job is for all threads, whether that pays or not */

enum { POOL_LIMIT = 256 };
#define POOL_SPIN_NS 50000       /* how long a worker looks for the next job before it sleeps */
#define POOL_BRISK 4             /* jobs in quick succession, after which a sleeper is called for the next ones' sake */
#define POOL_CAUTION 16          /* one part in so many of the time of jobs may be lost to help that fails */
#define POOL_GRACE_NS 200000     /* what help may lose before it is given up, and needs to be tried again */
#define POOL_CREDIT_NS 1000000   /* the most that help can save up */
#define POOL_DEBT_NS 20000000    /* the most that is held against it: nobody waits for a stopped thread's hours */
#define POOL_ROUSE_NS 200000     /* the most that waking is expected to take */

#define POOL_OPEN 0x80000000u
#define POOL_WAITING 0x40000000u
#define POOL_INSIDE 0x3fffffffu

typedef struct {                 /* a thread's share of the parts, on a cache line of its own */
    _Alignas(64) atomic_llong next;
    long long end;
} pool_share;

typedef struct {                 /* what a thread does for a job */
    long long parts;
    double speed;                /* the sum of 1 / ns over its parts: a part in which the CPU was lost hardly counts */
    int64_t now;                 /* when its last part or call ended */
    int64_t calling;             /* ns spent on calling others */
} pool_effort;

static struct {
    _Alignas(64) atomic_ullong gate;
    _Alignas(64) atomic_int asleep;
    atomic_int callable;         /* sleepers whom nobody has called to the current job yet */
    atomic_llong rouse;          /* ns from a call until the sleeper works: a running mean */
    int64_t called;              /* when, the last time; under the lock */
    atomic_flag busy;
    shared_int started;          /* workers; their thread index is 1, 2, … and the caller's is 0 */
    /* Of the current job: */
    int threads;
    int cpu;                     /* the caller's */
    int brisk;                   /* jobs before it that followed each other quickly */
    pool_task task;
    void *context;
    /* Between jobs: */
    int alone;                   /* help has lost too much, and is tried again when `balance` has recovered */
    int64_t balance;             /* ns that help has won */
    int64_t end;                 /* of the last job */
    double pace;                 /* ns of a part in the last job */
    os_mutex lock;
    os_condition wake;
    os_condition done;
    pool_share share[POOL_LIMIT];
} pool = {.busy = ATOMIC_FLAG_INIT, .lock = OS_MUTEX, .wake = OS_CONDITION, .done = OS_CONDITION, .rouse = 20000,
          .balance = POOL_GRACE_NS};

static long long pool_left(void) {
    long long left = 0;
    for (int k = 0; k < pool.threads; k++) {
        long long here = pool.share[k].end - atomic_load_explicit(&pool.share[k].next, memory_order_relaxed);
        if (here > 0) left += here;
    }
    return left;
}

/* Calls a sleeper, if that pays: what is left must keep those who work at it busy for twice as long as waking takes. */
static void pool_call(pool_effort *mine, double pace) {
    double others = 1.0 + (double)(atomic_load(&pool.gate) & POOL_INSIDE);
    double rouse = (double)atomic_load_explicit(&pool.rouse, memory_order_relaxed);
    int pays = pool.brisk == POOL_BRISK || (double)pool_left() * pace >= 2 * rouse * others;
    if (!pays && !pool_eager) return;
    if (atomic_fetch_sub(&pool.callable, 1) <= 0) return;
    os_lock(&pool.lock);
    pool.called = mine->now;
    os_unlock(&pool.lock);      /* first, or the sleeper may wake only to wait for it */
    os_signal(&pool.wake);
    int64_t now = os_clock();
    mine->calling += now - mine->now;
    mine->now = now;
}

static void pool_work(int self, pool_effort *mine) {
    for (int k = 0; k < pool.threads; k++) {
        pool_share *share = &pool.share[(self + k) % pool.threads];
        long long part;
        while ((part = atomic_fetch_add_explicit(&share->next, 1, memory_order_relaxed)) < share->end) {
            pool.task(pool.context, (Py_ssize_t)part);
            int64_t now = os_clock();
            mine->parts++;
            mine->speed += 1.0 / (double)(now - mine->now + 1);
            mine->now = now;
            if (atomic_load_explicit(&pool.callable, memory_order_relaxed) > 0)
                pool_call(mine, (double)mine->parts / mine->speed);
        }
    }
}

/* Sleeps until there is a generation other than `seen`; returns when it was called, 0 if it wasn't. */
static int64_t pool_sleep(unsigned seen) {
    os_lock(&pool.lock);
    pool.called = 0;
    atomic_fetch_add(&pool.asleep, 1);
    while ((unsigned)(atomic_load(&pool.gate) >> 32) == seen) os_wait(&pool.wake, &pool.lock);
    atomic_fetch_sub(&pool.asleep, 1);
    int64_t called = pool.called;
    os_unlock(&pool.lock);
    return called;
}

/* Learns how long waking takes.  One that took much longer than others counts as twice as long. */
static void pool_learn(int64_t took) {
    int64_t rouse = atomic_load_explicit(&pool.rouse, memory_order_relaxed);
    if (took > 2 * rouse) took = 2 * rouse;
    rouse += (took - rouse) / 8;
    if (rouse > POOL_ROUSE_NS) rouse = POOL_ROUSE_NS;
    if (rouse < 1000) rouse = 1000;
    atomic_store_explicit(&pool.rouse, rouse, memory_order_relaxed);
}

/* Waits for a generation other than `seen`: awake for a while, then asleep; returns when it was called from sleep. */
static int64_t pool_await(unsigned seen, int64_t patience) {
    int64_t until = 0;
    for (unsigned turn = 1; patience; turn++) {
        if ((unsigned)(atomic_load(&pool.gate) >> 32) != seen) return 0;
        os_pause();
        if (turn % 64) continue;
        int64_t now = os_clock();
        if (!until) until = now + patience;
        if (now >= until) break;
    }
    return pool_sleep(seen);
}

static void pool_leave(void) {
    unsigned long long gate = atomic_fetch_sub(&pool.gate, 1);
    if (!(gate & POOL_WAITING) || (gate & POOL_INSIDE) > 1) return;
    os_lock(&pool.lock);
    os_unlock(&pool.lock);
    os_signal(&pool.done);
}

/* What a worker does in a job that it has come in time for; returns how long it shall look for the next one. */
static int64_t pool_join(int self, unsigned long long gate, int64_t called) {
    if (pool.cpu >= 0 && pool.cpu == os_cpu() && !pool_eager) return 0;    /* gives the caller its CPU back */
    if ((gate & POOL_INSIDE) + 1 < (unsigned)pool.threads) {
        pool_effort mine = {.now = os_clock()};
        if (called) pool_learn(mine.now - called);
        pool_work(self % pool.threads, &mine);
    }
    return POOL_SPIN_NS;
}

static os_result OS_THREAD pool_worker(void *argument) {
    int self = (int)(intptr_t)argument;
    int64_t patience = POOL_SPIN_NS;
    unsigned seen = 0;           /* generations start at 1, so a late starter joins the job it was made for */
    os_be_polite();
    for (;;) {
        int64_t called = pool_await(seen, patience);
        unsigned long long gate = atomic_load(&pool.gate);
        seen = (unsigned)(gate >> 32);
        patience = POOL_SPIN_NS;
        if (called && !(gate & POOL_OPEN)) {     /* too late: CPUs are busy, and looking out would keep one so */
            pool_learn(os_clock() - called);
            patience = 0;
        }
        while ((gate & POOL_OPEN) && (unsigned)(gate >> 32) == seen)
            if (atomic_compare_exchange_weak(&pool.gate, &gate, gate + 1)) {
                patience = pool_join(self, gate, called);
                pool_leave();
                break;
            }
    }
    return 0;
}

static void pool_start(int threads) {
    while (pool.started < threads - 1) {
        if (os_start(pool_worker, (void *)(intptr_t)(pool.started + 1))) break;
        pool.started++;
    }
}

/* After fork the child has no workers, whatever the parent was doing. */
static void pool_after_fork(void) {
    pool.started = 0;
    atomic_store(&pool.gate, 0);
    atomic_store(&pool.asleep, 0);
    atomic_flag_clear(&pool.busy);
    os_new_mutex(&pool.lock);
    os_new_condition(&pool.wake);
    os_new_condition(&pool.done);
}

static int pool_init(void) { return os_after_fork(pool_after_fork); }

static int pool_started(void) { return pool.started; }

static void pool_open(pool_task task, void *context, Py_ssize_t parts, int threads) {
    pool.threads = threads;
    pool.task = task;
    pool.context = context;
    pool.cpu = os_cpu();
    for (int k = 0; k < threads; k++) {
        atomic_store_explicit(&pool.share[k].next, parts * k / threads, memory_order_relaxed);
        pool.share[k].end = parts * (k + 1) / threads;
    }
    int asleep = atomic_load(&pool.asleep);
    atomic_store(&pool.callable, asleep < threads - 1 ? asleep : threads - 1);
    unsigned generation = (unsigned)(atomic_load(&pool.gate) >> 32) + 1;
    if (!generation) generation = 1;
    atomic_store(&pool.gate, (unsigned long long)generation << 32 | POOL_OPEN);
}

/* Lets nobody in and waits until nobody is inside: awake for a while, then asleep, which leaves a CPU to the late. */
static void pool_close(int64_t until) {
    atomic_fetch_and(&pool.gate, ~(unsigned long long)POOL_OPEN);
    for (unsigned turn = 1; atomic_load(&pool.gate) & POOL_INSIDE; turn++) {
        os_pause();
        if (turn % 64 == 0 && os_clock() > until) break;
    }
    if (!(atomic_fetch_or(&pool.gate, POOL_WAITING) & POOL_INSIDE)) return;
    os_lock(&pool.lock);
    while (atomic_load(&pool.gate) & POOL_INSIDE) os_wait(&pool.done, &pool.lock);
    os_unlock(&pool.lock);
}

/* Does a job with the workers; returns the ns that their help has won. */
static int64_t pool_together(pool_task task, void *context, Py_ssize_t parts, int threads, int64_t start) {
    pool_effort mine = {.now = start};
    pool_open(task, context, parts, threads);
    if (atomic_load(&pool.callable) > 0) pool_call(&mine, pool.pace);
    pool_work(0, &mine);
    if (mine.parts) pool.pace = (double)mine.parts / mine.speed;
    pool_close(mine.now + (int64_t)(2 * pool.pace) + POOL_SPIN_NS);
    pool.end = os_clock();
    if (!mine.calling) {         /* what isn't tried is forgotten */
        int64_t rouse = atomic_load_explicit(&pool.rouse, memory_order_relaxed);
        atomic_store_explicit(&pool.rouse, rouse - rouse / 1024, memory_order_relaxed);
        if (mine.parts == parts) return 0;
    }
    return (int64_t)((double)(parts - mine.parts) * pool.pace) - (pool.end - mine.now) - mine.calling;
}

static void pool_alone(pool_task task, void *context, Py_ssize_t parts) {
    for (Py_ssize_t part = 0; part < parts; part++) task(context, part);
}

static void pool_run(pool_task task, void *context, Py_ssize_t parts, int threads) {
    if (threads > parts) threads = (int)parts;
    if (threads > POOL_LIMIT) threads = POOL_LIMIT;
    if (threads <= 1 || atomic_flag_test_and_set_explicit(&pool.busy, memory_order_acquire)) {
        pool_alone(task, context, parts);        /* or another Python thread's job has the pool */
        return;
    }
    pool_start(threads);
    if (pool.started + 1 < threads) threads = pool.started + 1;
    int64_t start = os_clock();
    pool.brisk = start - pool.end < POOL_SPIN_NS ? pool.brisk + (pool.brisk < POOL_BRISK) : 0;
    if (pool.alone && !pool_eager) {
        pool_alone(task, context, parts);
        pool.end = os_clock();
        int64_t most = (int64_t)(2 * pool.pace * (double)parts), took = pool.end - start;
        pool.balance += (took < most ? took : most) / POOL_CAUTION;      /* time without a CPU is no work */
        pool.alone = pool.balance < POOL_GRACE_NS;
    } else {
        pool.balance += pool_together(task, context, parts, threads, start);
        pool.alone = pool.balance < 0;
    }
    if (pool.balance > POOL_CREDIT_NS) pool.balance = POOL_CREDIT_NS;
    if (pool.balance < -POOL_DEBT_NS) pool.balance = -POOL_DEBT_NS;
    atomic_flag_clear_explicit(&pool.busy, memory_order_release);
}

#endif
