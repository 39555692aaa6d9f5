/* What the pool asks of the system: threads, locks, conditions, the time, the CPU.  POSIX, or Windows. */
#ifndef OPTIMLITE_SYSTEM_H
#define OPTIMLITE_SYSTEM_H

#include <stdint.h>

#if defined(_WIN32)

#define WIN32_LEAN_AND_MEAN      /* the rest has a macro `hyper`, for one */
#include <windows.h>

typedef SRWLOCK os_mutex;
typedef CONDITION_VARIABLE os_condition;
typedef DWORD os_result;
#define OS_MUTEX SRWLOCK_INIT
#define OS_CONDITION CONDITION_VARIABLE_INIT
#define OS_THREAD WINAPI

static inline void os_lock(os_mutex *mutex) { AcquireSRWLockExclusive(mutex); }
static inline void os_unlock(os_mutex *mutex) { ReleaseSRWLockExclusive(mutex); }
static inline void os_wait(os_condition *condition, os_mutex *mutex) {
    SleepConditionVariableSRW(condition, mutex, INFINITE, 0);
}
static inline void os_signal(os_condition *condition) { WakeConditionVariable(condition); }
static inline void os_new_mutex(os_mutex *mutex) { InitializeSRWLock(mutex); }
static inline void os_new_condition(os_condition *condition) { InitializeConditionVariable(condition); }

static int64_t os_clock(void) {          /* ns */
    LARGE_INTEGER ticks, second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&second);  /* apart, since ticks * 10^9 overflows after days */
    return ticks.QuadPart / second.QuadPart * 1000000000
        + ticks.QuadPart % second.QuadPart * 1000000000 / second.QuadPart;
}

static inline int os_cpu(void) { return (int)GetCurrentProcessorNumber(); }
static inline void os_pause(void) { YieldProcessor(); }
static inline void os_be_polite(void) {}
static inline int os_after_fork(void (*run)(void)) { return (void)run, 0; }      /* there is none */

static int os_start(os_result (OS_THREAD *run)(void *), void *argument) {
    HANDLE thread = CreateThread(NULL, 0, run, argument, 0, NULL);
    return thread ? !CloseHandle(thread) : 1;
}

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

typedef pthread_mutex_t os_mutex;
typedef pthread_cond_t os_condition;
typedef void *os_result;
#define OS_MUTEX PTHREAD_MUTEX_INITIALIZER
#define OS_CONDITION PTHREAD_COND_INITIALIZER
#define OS_THREAD

static inline void os_lock(os_mutex *mutex) { pthread_mutex_lock(mutex); }
static inline void os_unlock(os_mutex *mutex) { pthread_mutex_unlock(mutex); }
static inline void os_wait(os_condition *condition, os_mutex *mutex) { pthread_cond_wait(condition, mutex); }
static inline void os_signal(os_condition *condition) { pthread_cond_signal(condition); }
static inline void os_new_mutex(os_mutex *mutex) { pthread_mutex_init(mutex, NULL); }
static inline void os_new_condition(os_condition *condition) { pthread_cond_init(condition, NULL); }

static int64_t os_clock(void) {          /* ns */
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int os_cpu(void) {         /* -1: unknown */
#if defined(__linux__)
    return sched_getcpu();
#else
    return -1;
#endif
}

static inline void os_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* A thread that is called to a CPU in use waits its turn there: else it would take the caller's, of all CPUs. */
static void os_be_polite(void) {
#if defined(__linux__)
    int policy;
    struct sched_param param;
    if (!pthread_getschedparam(pthread_self(), &policy, &param) && policy == SCHED_OTHER)
        pthread_setschedparam(pthread_self(), SCHED_BATCH, &param);
#endif
}

static inline int os_after_fork(void (*run)(void)) { return pthread_atfork(NULL, NULL, run); }

/* Starts a thread for which nobody waits; 0 if it could.  Signals belong to Python's main thread. */
static int os_start(os_result (*run)(void *), void *argument) {
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? failed : pthread_detach(thread);
}

#endif
#endif
