# Which of the compiled levels this CPU can run.

cdef extern from *:
    """
    #if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
    static int cpu_has_v3(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi")
            && __builtin_cpu_supports("bmi2");
    }
    static int cpu_has_v4(void) {
        return cpu_has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int cpu_has_v3(void) { return 0; }
    static int cpu_has_v4(void) { return 0; }
    #endif
    """
    bint cpu_has_v3() noexcept nogil
    bint cpu_has_v4() noexcept nogil


def cpu_supports(str level not None) -> bool:
    """Whether this CPU (and its operating system) runs code compiled for "baseline", "v3" or "v4"."""
    return level == "baseline" or (level == "v3" and cpu_has_v3()) or (level == "v4" and cpu_has_v4())
