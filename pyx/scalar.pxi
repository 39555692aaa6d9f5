# Scalar arithmetic that must give the same bits on every CPU.

def power(double base, int64_t exponent):
    """base ** exponent by repeated squaring: only multiplications, where the C library's pow differs between CPUs."""
    cdef double result = 1.0
    while exponent > 0:
        if exponent & 1:
            result = result * base
        base = base * base
        exponent >>= 1
    return result
