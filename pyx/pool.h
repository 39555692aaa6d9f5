/* A small pool of native threads that runs one job at a time: in C, because Cython has no atomics.
 *
 * A job is `parts` independent calls task(context, part).  Each thread owns a contiguous share of the parts and takes
 * from the others' shares when its own is done, so a thread that wakes late or loses its CPU costs little: the caller
 * never waits for one that has not started.  Which thread runs a part never changes a result.
 *
 * The gate is one word: generation << 32 | OPEN | number of workers inside.  A worker enters by compare-and-swap while
 * the gate is open; the caller closes it when no part is left, and waits until nobody is inside.
 */
#ifndef OPTIMLITE_POOL_H
#define OPTIMLITE_POOL_H

#include "shared.h"

typedef void (*pool_task)(void *context, Py_ssize_t part);

static shared_int max_threads = 1;       /* read where Python's lock is not held */

#if defined(_WIN32)              /* no POSIX threads: the caller does everything */

static int pool_init(void) { return 0; }
static int pool_started(void) { return 0; }
static void pool_run(pool_task task, void *context, Py_ssize_t parts, int threads) {
    (void)threads;
    for (Py_ssize_t part = 0; part < parts; part++) task(context, part);
}

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

enum { POOL_LIMIT = 256 };
#define POOL_SPIN_NS 50000       /* how long a worker looks for the next job before it sleeps */
#define POOL_OPEN 0x80000000u
#define POOL_INSIDE 0x7fffffffu

typedef struct {                 /* a thread's share of the parts, on a cache line of its own */
    _Alignas(64) atomic_llong next;
    long long end;
} pool_share;

static struct {
    _Alignas(64) atomic_ullong gate;
    _Alignas(64) atomic_int asleep;
    atomic_flag busy;
    shared_int started;          /* workers; their thread index is 1, 2, … and the caller's is 0 */
    int threads;                 /* of the current job */
    pool_task task;
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pool_share share[POOL_LIMIT];
} pool = {.busy = ATOMIC_FLAG_INIT, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static inline void pool_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static int64_t pool_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void pool_work(int self) {
    for (int k = 0; k < pool.threads; k++) {
        pool_share *share = &pool.share[(self + k) % pool.threads];
        long long part;
        while ((part = atomic_fetch_add_explicit(&share->next, 1, memory_order_relaxed)) < share->end)
            pool.task(pool.context, (Py_ssize_t)part);
    }
}

/* Waits for a generation other than `seen`: awake for a while, then asleep. */
static unsigned long long pool_await(unsigned seen) {
    int64_t until = 0;
    for (unsigned turn = 1;; turn++) {
        unsigned long long gate = atomic_load(&pool.gate);
        if ((unsigned)(gate >> 32) != seen) return gate;
        pool_pause();
        if (turn % 64) continue;
        int64_t now = pool_clock();
        if (!until) until = now + POOL_SPIN_NS;
        if (now < until) continue;
        pthread_mutex_lock(&pool.lock);
        atomic_fetch_add(&pool.asleep, 1);
        while ((unsigned)((gate = atomic_load(&pool.gate)) >> 32) == seen) pthread_cond_wait(&pool.wake, &pool.lock);
        atomic_fetch_sub(&pool.asleep, 1);
        pthread_mutex_unlock(&pool.lock);
        return gate;
    }
}

static void *pool_worker(void *argument) {
    int self = (int)(intptr_t)argument;
    unsigned seen = 0;           /* generations start at 1, so a late starter joins the job it was made for */
    for (;;) {
        unsigned long long gate = pool_await(seen);
        seen = (unsigned)(gate >> 32);
        while ((gate & POOL_OPEN) && (unsigned)(gate >> 32) == seen)
            if (atomic_compare_exchange_weak(&pool.gate, &gate, gate + 1)) {
                if (self < pool.threads) pool_work(self);
                atomic_fetch_sub(&pool.gate, 1);
                break;
            }
    }
    return NULL;
}

static void pool_start(int threads) {
    sigset_t all, before;
    pthread_attr_t detached;
    if (pool.started >= threads - 1) return;
    sigfillset(&all);            /* signals belong to Python's main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    while (pool.started < threads - 1) {
        pthread_t thread;
        if (pthread_create(&thread, &detached, pool_worker, (void *)(intptr_t)(pool.started + 1))) break;
        pool.started++;
    }
    pthread_attr_destroy(&detached);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* After fork the child has no workers, whatever the parent was doing. */
static void pool_after_fork(void) {
    pool.started = 0;
    atomic_store(&pool.gate, 0);
    atomic_store(&pool.asleep, 0);
    atomic_flag_clear(&pool.busy);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
}

static int pool_init(void) { return pthread_atfork(NULL, NULL, pool_after_fork); }

static int pool_started(void) { return pool.started; }

static void pool_run(pool_task task, void *context, Py_ssize_t parts, int threads) {
    if (threads > parts) threads = (int)parts;
    if (threads > POOL_LIMIT) threads = POOL_LIMIT;
    if (threads > 1 && !atomic_flag_test_and_set_explicit(&pool.busy, memory_order_acquire)) {
        pool_start(threads);
        if (pool.started + 1 < threads) threads = pool.started + 1;
        pool.threads = threads;
        pool.task = task;
        pool.context = context;
        for (int k = 0; k < threads; k++) {
            atomic_store_explicit(&pool.share[k].next, parts * k / threads, memory_order_relaxed);
            pool.share[k].end = parts * (k + 1) / threads;
        }
        unsigned generation = (unsigned)(atomic_load(&pool.gate) >> 32) + 1;
        if (!generation) generation = 1;
        atomic_store(&pool.gate, (unsigned long long)generation << 32 | POOL_OPEN);
        if (atomic_load(&pool.asleep)) {
            pthread_mutex_lock(&pool.lock);
            pthread_cond_broadcast(&pool.wake);
            pthread_mutex_unlock(&pool.lock);
        }
        pool_work(0);
        atomic_fetch_and(&pool.gate, ~(unsigned long long)POOL_OPEN);
        for (unsigned turn = 1; atomic_load(&pool.gate) & POOL_INSIDE; turn++) {
            pool_pause();
            if (turn % 4096 == 0) sched_yield();     /* more threads than CPUs: let the last one finish */
        }
        atomic_flag_clear_explicit(&pool.busy, memory_order_release);
        return;
    }
    /* One thread asked for, or another Python thread's job has the pool. */
    for (Py_ssize_t part = 0; part < parts; part++) task(context, part);
}

#endif
#endif
