# The float type of this module, and the signature of a rule.
#
# kernels.pyx is compiled once per float type: setup.py defines OPTIMLITE_DOUBLE for the second one.

cdef extern from *:
    """
    #ifdef OPTIMLITE_DOUBLE
      typedef double real;
      #define REAL(name) name
    #else
      typedef float real;
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
    """
    ctypedef float real
    ctypedef real* real_array              # `restrict`: no alias checks before the vector loop
    ctypedef const real* const_real_array
    ctypedef double* double_array
    real sqrt "real_sqrt" (real x) noexcept nogil
    real fabs "real_fabs" (real x) noexcept nogil
    void prefetch "real_prefetch" (const void* address) noexcept nogil

# One element: p points to the parameter, s to its state, g is the finished gradient.
ctypedef void (*Rule)(const void* hyper, real* p, real g, real* s) noexcept nogil


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
