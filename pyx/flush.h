/* Flushing subnormal numbers to zero, for one thread and for as long as a kernel runs there: never for the process. */
#ifndef OPTIMLITE_FLUSH_H
#define OPTIMLITE_FLUSH_H

#include <stdint.h>

#include "shared.h"

#define FLUSH_ACTIVE (1ull << 32)        /* beside the mode as it was, which has 32 bits */

static shared_int flush_wanted = 0;

#if defined(__SSE2__) || defined(_M_X64)

#include <xmmintrin.h>
static int flush_supported(void) { return 1; }
static inline uint64_t mode_get(void) { return _mm_getcsr(); }
static inline void mode_set(uint64_t mode) { _mm_setcsr((unsigned)mode); }
#define FLUSH_BITS 0x8040u               /* FTZ: results; DAZ: operands */

#elif defined(__aarch64__)

static int flush_supported(void) { return 1; }
static inline uint64_t mode_get(void) {
    uint64_t mode;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(mode));
    return mode & 0xffffffffu;
}
static inline void mode_set(uint64_t mode) {
    __asm__ __volatile__("msr fpcr, %0" : : "r"(mode & 0xffffffffu) : "memory");
}
#define FLUSH_BITS (1u << 24)            /* FZ: results and operands */

#else

static int flush_supported(void) { return 0; }
static inline uint64_t mode_get(void) { return 0; }
static inline void mode_set(uint64_t mode) { (void)mode; }
#define FLUSH_BITS 0u

#endif

/* Returns what flush_end needs to restore the thread's mode. */
static inline uint64_t flush_begin(void) {
    if (!flush_wanted) return 0;
    uint64_t before = mode_get();
    mode_set(before | FLUSH_BITS);
    return before | FLUSH_ACTIVE;
}

static inline void flush_end(uint64_t begun) {
    if (begun & FLUSH_ACTIVE) mode_set(begun);
}

#endif
