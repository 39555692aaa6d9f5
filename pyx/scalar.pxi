# Scalar arithmetic that must give the same bits on every CPU.

cdef enum:
    ATANH = 25                   # last power of the series, whose argument is below 0.18
    TAYLOR = 14                  # last power of the series, whose argument is below 0.35

cdef double LN2_HIGH = 6.93147180369123816490e-01    # ln 2 in two parts: multiples of the first are exact
cdef double LN2_LOW = 1.90821492927058770002e-10


def power(double base, int64_t exponent):
    """base ** exponent by repeated squaring: only multiplications, where the C library's pow differs between CPUs."""
    cdef double result = 1.0
    while exponent > 0:
        if exponent & 1:
            result = result * base
        base = base * base
        exponent >>= 1
    return result


cdef double logarithm(double x) noexcept:
    # of a finite x > 0: of its mantissa m in [sqrt(1/2), sqrt(2)) as 2 * atanh((m - 1) / (m + 1)), and of its exponent
    cdef int exponent, k
    cdef double m = frexp(x, &exponent), z, series = 0.0
    if m < 0.7071067811865476:
        m = 2.0 * m
        exponent -= 1
    z = (m - 1.0) / (m + 1.0)
    for k in range(ATANH, 0, -2):
        series = series * (z * z) + 1.0 / k
    return exponent * LN2_HIGH + (exponent * LN2_LOW + 2.0 * z * series)


cdef double exponential(double x) noexcept:
    # 2^whole * exp(rest)
    cdef double whole, rest, series = 1.0
    cdef int k
    x = min(max(x, -1000.0), 1000.0)     # beyond: 0 and infinity
    whole = floor(x / (LN2_HIGH + LN2_LOW) + 0.5)
    rest = x - whole * LN2_HIGH - whole * LN2_LOW
    for k in range(TAYLOR, 0, -1):
        series = 1.0 + series * rest / k
    return ldexp(series, <int> whole)


def real_power(double base, double exponent) -> float:
    """base ** exponent for a finite base > 0: from + - * / alone, where the C library's pow differs between CPUs."""
    return exponential(exponent * logarithm(base))
