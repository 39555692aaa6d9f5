# The float type of a kernel module, and what a rule may use beside + - * /.
#
# kernels.pyx is compiled once per float type: setup.py defines OPTIMLITE_DOUBLE for the second one.

from libc.stdint cimport uint16_t, uint32_t

cdef extern from *:
    """
    #ifndef OPTIMLITE_REAL
    #define OPTIMLITE_REAL
    #include <float.h>
    #include <math.h>
    #include <stdint.h>
    #include <string.h>
    #ifdef OPTIMLITE_DOUBLE
      typedef double real;
      #define REAL_EPSILON DBL_EPSILON
      typedef int64_t real_bits;
      #define REAL(name) name
    #else
      typedef float real;
      #define REAL_EPSILON FLT_EPSILON
      typedef int32_t real_bits;
      #define REAL(name) name##f
    #endif
    #if defined(_MSC_VER)
      #define OPTIMLITE_RESTRICT __restrict
      #define real_prefetch(address) ((void)(address))
    #else
      #define OPTIMLITE_RESTRICT restrict
      #define real_prefetch(address) __builtin_prefetch(address)
    #endif
    typedef real *OPTIMLITE_RESTRICT real_array;
    typedef const real *OPTIMLITE_RESTRICT const_real_array;
    typedef double *OPTIMLITE_RESTRICT double_array;
    #define real_sqrt(x) REAL(sqrt)(x)
    #define real_fabs(x) REAL(fabs)(x)
    #define double_sqrt(x) sqrt(x)
    #define REAL_INFINITY ((real) INFINITY)
    static inline real_bits bits_of(real x) { real_bits bits; memcpy(&bits, &x, sizeof bits); return bits; }
    static inline real real_of(real_bits bits) { real x; memcpy(&x, &bits, sizeof x); return x; }
    static inline uint32_t bits_of_single(float x) { uint32_t bits; memcpy(&bits, &x, sizeof bits); return bits; }
    static inline float single_of(uint32_t bits) { float x; memcpy(&x, &bits, sizeof x); return x; }
    #endif
    """
    ctypedef float real
    uint32_t bits_of_single(float x) noexcept nogil
    float single_of(uint32_t bits) noexcept nogil
    ctypedef long real_bits
    real_bits bits_of(real x) noexcept nogil
    real real_of(real_bits bits) noexcept nogil
    ctypedef real* real_array              # `restrict`: no alias checks before the vector loop
    ctypedef const real* const_real_array
    ctypedef double* double_array
    const real epsilon "REAL_EPSILON"
    const real infinity "REAL_INFINITY"
    real sqrt "real_sqrt" (real x) noexcept nogil
    real fabs "real_fabs" (real x) noexcept nogil
    double double_sqrt(double x) noexcept nogil
    void prefetch "real_prefetch" (const void* address) noexcept nogil


cdef inline real widened(uint16_t half) noexcept nogil:
    # a bfloat16: the upper half of a float32
    return <real> single_of((<uint32_t> half) << 16)


cdef inline real maximum(real a, real b) noexcept nogil:
    # numpy's maximum: NaN wins; two choices, since gcc doesn't vectorise an `or`
    cdef real larger = a if a > b else b
    return a if a != a else larger


cdef inline real sign(real x) noexcept nogil:
    # torch's sign: 0 for NaN
    return <real> (x > <real> 0) - <real> (x < <real> 0)


cdef inline real minimum(real a, real b) noexcept nogil:
    # numpy's minimum, likewise
    cdef real smaller = a if a < b else b
    return a if a != a else smaller


cdef inline double larger(double a, double b) noexcept nogil:
    return b if b > a or b != b else a           # NaN wins


cdef inline real towards(real a, real b, real weight) noexcept nogil:
    # a choice, since a + 1 * (b - a) is not b but b rounded, and NaN where both are infinite
    return b if weight == <real> 1 else a + weight * (b - a)


cdef inline real decayed(real g, real decay, real p) noexcept nogil:
    # a choice, since + 0 * p would turn an infinite p into NaN
    return g + decay * p if decay != <real> 0 else g


cdef inline void fetch(const char* address, Py_ssize_t bytes) noexcept nogil:
    cdef Py_ssize_t k
    for k in range((bytes + 63) // 64):
        prefetch(address + 64 * k)
