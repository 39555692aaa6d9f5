# How state can be stored in fewer bytes.  A rule doesn't know of it: a tile is decoded before, and encoded after.
#
# What is lost by rounding would be lost for good where a step moves a value by less than the format resolves, so values
# are rounded up or down at random, as often as makes the mean right.  An element's 32 random bits are those of its
# block of SHARING elements, `noise` for the first of them, exclusive-or those of its place in the block.  So each
# element's are uniform, those of neighbours are spread evenly, and one operation is all that they cost.  `nearest`: one
# half for all.

cdef enum:
    ONE = 0x3f800000
    DROPPED = 20                 # bits that a code drops: it keeps three of the fraction
    LEAST = -122                 # exponents of scales: the least code is a normal number then,
    SPOILT = 127                 # and the mark of a block where something isn't finite
    SIGNED = 15                  # octaves from a block's scale to its largest value
    UNSIGNED = 31

cdef uint32_t[SHARING] SPREAD    # the random bits of a place in a block, as many as are used: the first 16,
cdef uint32_t[SHARING] SPREAD20  # and 20
cdef uint32_t[SHARING] NOTHING   # zeros

cdef void spread() noexcept:
    cdef int place
    for place in range(SHARING):
        SPREAD[place] = <uint32_t> (<uint32_t> place * <uint32_t> GOLDEN) >> 16
        SPREAD20[place] = <uint32_t> (<uint32_t> place * <uint32_t> GOLDEN) >> 12

spread()


cdef inline uint32_t noise_of_block(uint32_t noise, Py_ssize_t k, bint nearest) noexcept nogil:
    return 0x80000000 if nearest else noise + <uint32_t> k * <uint32_t> GOLDEN


cdef extern from "narrow.h" nogil:
    const bint IN_REGISTERS "OPTIMLITE_NARROW"
    int32_t largest_in_registers(const float* values)
    void code_in_registers(const float* values, uint8_t* code, float inverse, uint32_t noise, const uint32_t* places,
                           bint signed)
    void decode_in_registers(const int8_t* code, float unit, float* values, bint signed)
    Py_ssize_t widen_in_registers(const uint16_t* half, float* values, Py_ssize_t n)
    int32_t halve_in_registers(const float* values, uint16_t* half, uint32_t noise, const uint32_t* places)


cdef void decode_bfloat16(const void* stored, const void* scales, void* values, Py_ssize_t n) noexcept nogil:
    cdef const uint16_t* half = <const uint16_t*> stored
    cdef real_array x = <real*> values
    cdef Py_ssize_t i
    for i in range(widen_in_registers(half, <float*> values, n) if sizeof(real) == 4 else 0, n):
        x[i] = widened(half[i])


cdef inline void encode_halves(const_real_array x, uint16_t* half, Py_ssize_t n, uint32_t noise,
                               const uint32_t* spread) noexcept nogil:
    cdef uint32_t bits
    cdef int32_t size, largest = 0
    cdef Py_ssize_t i
    if IN_REGISTERS and sizeof(real) == 4 and n == SHARING:
        largest = halve_in_registers(<const float*> x, half, noise, spread)
    else:
        for i in range(n):
            bits = bits_of_single(<float> x[i])
            size = <int32_t> (bits & MAGNITUDE)
            largest = size if size > largest else largest
            half[i] = rounded(bits, (noise >> 16) ^ spread[i])
    if largest >= LAST_BFLOAT16:
        round_special(x, half, n)


cdef void encode_bfloat16(const void* values, void* stored, void* scales, Py_ssize_t n, uint32_t noise,
                          bint nearest) noexcept nogil:
    cdef const uint32_t* spread = &NOTHING[0] if nearest else &SPREAD[0]
    cdef Py_ssize_t k
    for k in range(n // SHARING):        # a fixed number of turns: nothing before the vector loop, and nothing after it
        encode_halves(<const real*> values + k * SHARING, <uint16_t*> stored + k * SHARING, SHARING,
                      noise_of_block(noise, k, nearest), spread)
    k = n // SHARING
    encode_halves(<const real*> values + k * SHARING, <uint16_t*> stored + k * SHARING, n - k * SHARING,
                  noise_of_block(noise, k, nearest), spread)


# A parameter in bfloat16 that has a float32's bits: its own are those of the float32 rounded to the nearest, ties away
# from 0, and the lower half of the float32 is state.  Where that half begins with 1, the upper one was rounded up.

cdef void decode_split(const void* stored, const void* low, void* values, Py_ssize_t n) noexcept nogil:
    cdef const uint16_t* upper = <const uint16_t*> stored
    cdef const uint16_t* lower = <const uint16_t*> low
    cdef real_array x = <real*> values
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = <real> single_of((<uint32_t> upper[i] << 16) + <uint32_t> <int32_t> <int16_t> lower[i])


cdef void encode_split(const void* values, void* stored, void* low, Py_ssize_t n, uint32_t noise,
                       bint nearest) noexcept nogil:
    cdef const_real_array x = <const real*> values
    cdef uint16_t* upper = <uint16_t*> stored
    cdef uint16_t* lower = <uint16_t*> low
    cdef uint32_t bits
    cdef Py_ssize_t i
    for i in range(n):
        bits = bits_of_single(<float> x[i])
        bits = QUIET if <int32_t> (bits & MAGNITUDE) > INFINITE else bits        # its upper half stays NaN, rounded up
        upper[i] = <uint16_t> ((bits + 0x8000) >> 16)
        lower[i] = <uint16_t> bits


# float16, of gradients, of parameters and of copies of these, which are rounded to the nearest, ties to even.

cdef extern from "float16.h" nogil:
    Py_ssize_t singles_in_eights(const uint16_t* half, float* x, Py_ssize_t n)
    Py_ssize_t nearest_in_eights(const float* x, uint16_t* half, Py_ssize_t n)

cdef enum:
    HALF_MAGNITUDE = 0x7fff      # without its sign
    HALF_INFINITE = 0x7c00
    HALF_QUIET = 0x7e00
    HALF_NORMAL = 0x400          # the least normal number, smaller ones being multiples of 2^-24
    REBIASED = 0x38000000        # between the exponents of the two types, as a float32 has them
    TOO_LARGE = 0x47800000       # 2^16
    NORMAL = 0x38800000          # 2^-14
    LEAST_HALF = 0x33800000      # 2^-24
    ONE_HALF = 0x3f000000        # whose last bit is worth 2^-24
    THREE_QUARTERS = 0x3f400000  # likewise, to both sides of it
    MIDDLE = 0x457ff800          # of 13 random bits: 4095.5,
    UNIT = 0x2d000000            # and 2^-37, the last of them behind a number that isn't normal


cdef void decode_float16(const void* stored, const void* scales, void* values, Py_ssize_t n) noexcept nogil:
    cdef const uint16_t* half = <const uint16_t*> stored
    cdef real_array x = <real*> values
    cdef float least = single_of(LEAST_HALF)
    cdef int32_t size
    cdef uint32_t bits
    cdef Py_ssize_t i
    for i in range(singles_in_eights(half, <float*> values, n) if sizeof(real) == 4 else 0, n):
        size = half[i] & HALF_MAGNITUDE
        bits = (<uint32_t> size << 13) + REBIASED
        bits = bits + REBIASED if size >= HALF_INFINITE else bits
        bits = bits if size >= HALF_NORMAL else bits_of_single(<float> size * least)
        x[i] = <real> single_of(bits | (<uint32_t> (half[i] & 0x8000) << 16))


cdef inline void nearest_float16(const_real_array x, uint16_t* half, Py_ssize_t n) noexcept nogil:
    cdef float offset = single_of(ONE_HALF)
    cdef uint32_t bits, kept
    cdef int32_t size
    cdef Py_ssize_t i
    for i in range(nearest_in_eights(<const float*> x, half, n) if sizeof(real) == 4 else 0, n):
        bits = bits_of_single(<float> x[i])
        size = <int32_t> (bits & MAGNITUDE)
        kept = (<uint32_t> size - REBIASED + 0xfff + ((<uint32_t> size >> 13) & 1)) >> 13
        kept = kept if size >= NORMAL else bits_of_single(single_of(<uint32_t> size) + offset) - ONE_HALF
        kept = kept if size < TOO_LARGE else HALF_INFINITE
        kept = kept if size <= INFINITE else HALF_QUIET
        half[i] = <uint16_t> (kept | ((bits >> 16) & 0x8000))


cdef inline void stochastic_float16(const_real_array x, uint16_t* half, Py_ssize_t n, uint32_t noise) noexcept nogil:
    # at most SHARING elements; what is beyond the largest number may be infinite
    cdef float offset = single_of(THREE_QUARTERS), middle = single_of(MIDDLE), unit = single_of(UNIT), moved
    cdef uint32_t bits, random, kept
    cdef int32_t size
    cdef Py_ssize_t i
    for i in range(n):
        bits, random = bits_of_single(<float> x[i]), ((noise >> 16) ^ SPREAD[i]) >> 3
        size = <int32_t> (bits & MAGNITUDE)
        moved = single_of(<uint32_t> size) + (<float> <int32_t> random - middle) * unit
        kept = (<uint32_t> size - REBIASED + random) >> 13
        kept = kept if size >= NORMAL else bits_of_single(moved + offset) - THREE_QUARTERS
        kept = kept if size < TOO_LARGE else HALF_INFINITE
        kept = kept if size <= INFINITE else HALF_QUIET
        half[i] = <uint16_t> (kept | ((bits >> 16) & 0x8000))


cdef void encode_float16(const void* values, void* stored, void* scales, Py_ssize_t n, uint32_t noise,
                         bint nearest) noexcept nogil:
    cdef const real* x = <const real*> values
    cdef uint16_t* half = <uint16_t*> stored
    cdef Py_ssize_t at = 0
    if nearest:
        nearest_float16(x, half, n)
        return
    while at < n:
        stochastic_float16(x + at, half + at, min(<Py_ssize_t> SHARING, n - at),
                           noise_of_block(noise, at // SHARING, False))
        at += SHARING


# A parameter of 16 bits with what it was rounded by, Kahan's compensation, in 16 more, times a power of two: so that it
# is as large as the parameter at most, and as far from the least numbers of the format.  Where it is larger, somebody
# has written another parameter, and it counts no more.

cdef inline void decode_kahan(const void* stored, const void* rest, real* x, Py_ssize_t n, Decode decode, uint32_t unit,
                              uint32_t least) noexcept nogil:
    cdef real lost[SHARING]
    cdef real factor = <real> single_of(unit), smallest = <real> single_of(least), most
    cdef Py_ssize_t at = 0, i, m
    while at < n:
        m = min(<Py_ssize_t> SHARING, n - at)
        decode(<const uint16_t*> stored + at, NULL, x + at, m)
        decode(<const uint16_t*> rest + at, NULL, lost, m)
        for i in range(m):
            most = fabs(x[at + i]) if fabs(x[at + i]) > smallest else smallest
            x[at + i] = x[at + i] + (factor * lost[i] if fabs(lost[i]) <= most else <real> 0)
        at += SHARING


cdef inline void encode_kahan(const real* x, void* stored, void* rest, Py_ssize_t n, uint32_t noise, bint nearest,
                              Decode decode, Encode encode, uint32_t inverse) noexcept nogil:
    cdef real lost[SHARING]
    cdef real factor = <real> single_of(inverse), difference, infinite = <real> single_of(INFINITE)
    cdef Py_ssize_t at = 0, i, m
    while at < n:
        m = min(<Py_ssize_t> SHARING, n - at)
        encode(x + at, <uint16_t*> stored + at, NULL, m, 0, True)
        decode(<const uint16_t*> stored + at, NULL, lost, m)
        for i in range(m):
            difference = x[at + i] - lost[i]
            lost[i] = factor * difference if fabs(difference) < infinite else <real> 0
        encode(lost, <uint16_t*> rest + at, NULL, m, noise_of_block(noise, at // SHARING, nearest), nearest)
        at += SHARING


cdef enum:
    BFLOAT16_UNIT = 0x3b800000   # 2^-8: half of the last bit of 1,
    BFLOAT16_INVERSE = 0x43800000
    BFLOAT16_LEAST = 0x00800000  # 2^-126, the least normal number
    FLOAT16_UNIT = 0x3a000000    # 2^-11
    FLOAT16_INVERSE = 0x45000000


cdef void decode_kahan_bfloat16(const void* stored, const void* rest, void* x, Py_ssize_t n) noexcept nogil:
    decode_kahan(stored, rest, <real*> x, n, decode_bfloat16, BFLOAT16_UNIT, BFLOAT16_LEAST)


cdef void encode_kahan_bfloat16(const void* x, void* stored, void* rest, Py_ssize_t n, uint32_t noise,
                                bint nearest) noexcept nogil:
    encode_kahan(<const real*> x, stored, rest, n, noise, nearest, decode_bfloat16, encode_bfloat16, BFLOAT16_INVERSE)


cdef void decode_kahan_float16(const void* stored, const void* rest, void* x, Py_ssize_t n) noexcept nogil:
    decode_kahan(stored, rest, <real*> x, n, decode_float16, FLOAT16_UNIT, NORMAL)


cdef void encode_kahan_float16(const void* x, void* stored, void* rest, Py_ssize_t n, uint32_t noise,
                               bint nearest) noexcept nogil:
    encode_kahan(<const real*> x, stored, rest, n, noise, nearest, decode_float16, encode_float16, FLOAT16_INVERSE)


cdef void decode_other(const void* stored, const void* scales, void* values, Py_ssize_t n) noexcept nogil:
    # the other one of float32 and float64
    cdef real_array x = <real*> values
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = <real> (<const double*> stored)[i] if sizeof(real) == 4 else <real> (<const float*> stored)[i]


# int8: a byte for each element, and for each block one more, the exponent of a power of two, its scale.  A code is what
# the float32 1 + |value| / scale has of exponent and of the first three bits of its fraction, from 1 on.  So values
# below the scale are coded in even steps of an eighth of it, others in steps of an eighth to a sixteenth of themselves,
# and 0 stays 0.  The seven bits beside a sign reach over 16 octaves, the eight without one over 32; a block's largest
# value is in the last but one, so that it can be rounded up.  All blocks are coded as whole ones, the last in a copy.

cdef inline uint32_t largest_of(const_real_array x) noexcept nogil:
    cdef int32_t largest = 0, size
    cdef Py_ssize_t i
    if IN_REGISTERS and sizeof(real) == 4:
        return <uint32_t> largest_in_registers(<const float*> x)
    for i in range(SHARING):
        size = <int32_t> (bits_of_single(<float> x[i]) & MAGNITUDE)
        largest = size if size > largest else largest
    return <uint32_t> largest


cdef inline float power_of_two(int exponent) noexcept nogil:
    return single_of(<uint32_t> (exponent + 127) << 23)


cdef inline void decode_block(const int8_t* code, int exponent, real_array x, bint signed) noexcept nogil:
    cdef real scale = <real> (single_of(QUIET) if exponent == SPOILT else power_of_two(exponent))
    cdef uint32_t c, sign
    cdef float z
    cdef Py_ssize_t i
    if IN_REGISTERS and sizeof(real) == 4:
        decode_in_registers(code, <float> scale, <float*> x, signed)
        return
    for i in range(SHARING):
        c = <uint32_t> <int32_t> code[i]
        sign = c & <uint32_t> 0x80000000
        c = c & <uint32_t> 127 if signed else c & <uint32_t> 255
        z = single_of((c << DROPPED) + ONE) - <float> 1
        z = single_of(bits_of_single(z) | sign) if signed else z
        x[i] = scale * <real> z


cdef inline void encode_block(const_real_array x, uint8_t* code, float inverse, uint32_t noise, const uint32_t* spread,
                              bint signed) noexcept nogil:
    cdef uint32_t bits, c
    cdef int32_t kept, least
    cdef float size
    cdef Py_ssize_t i
    if IN_REGISTERS and sizeof(real) == 4:
        code_in_registers(<const float*> x, code, inverse, noise, spread, signed)
        return
    for i in range(SHARING):
        bits = bits_of_single(<float> x[i])
        size = single_of(bits & MAGNITUDE)
        c = bits_of_single(size * inverse + <float> 1) - ONE
        kept = <int32_t> ((c + ((noise >> 12) ^ spread[i])) >> DROPPED)
        if signed:
            kept = kept | <int32_t> ((bits >> 24) & 128)
        else:            # a mean of squares that became 0 would make steps too large
            least = size > <float> 0
            kept = kept if kept > least else least
        code[i] = <uint8_t> kept


cdef inline int scale_block(const_real_array x, uint8_t* code, uint32_t noise, const uint32_t* spread,
                            int octaves) noexcept nogil:
    # encodes a block, and returns the exponent of its scale
    cdef uint32_t largest = largest_of(x)
    cdef int exponent
    if largest >= INFINITE:
        memset(code, 0, SHARING)
        return SPOILT
    exponent = max(<int> (largest >> 23) - 126 - octaves, <int> LEAST)
    encode_block(x, code, power_of_two(-exponent), noise, spread, octaves == SIGNED)
    return exponent


cdef inline void decode_blocks(const int8_t* code, const int8_t* exponent, real* x, Py_ssize_t n,
                               bint signed) noexcept nogil:
    cdef Py_ssize_t k, whole = n // SHARING, rest = n - whole * SHARING
    cdef int8_t[SHARING] last
    cdef real[SHARING] decoded
    for k in range(whole):
        decode_block(code + k * SHARING, exponent[k], x + k * SHARING, signed)
    if rest:
        memset(last, 0, SHARING)
        memcpy(last, code + whole * SHARING, rest)
        decode_block(last, exponent[whole], decoded, signed)
        memcpy(x + whole * SHARING, decoded, rest * sizeof(real))


cdef inline void encode_blocks(const real* x, uint8_t* code, int8_t* exponent, Py_ssize_t n, uint32_t noise,
                               bint nearest, int octaves) noexcept nogil:
    cdef const uint32_t* spread = &NOTHING[0] if nearest else &SPREAD20[0]
    cdef Py_ssize_t k, whole = n // SHARING, rest = n - whole * SHARING
    cdef real[SHARING] last
    cdef uint8_t[SHARING] encoded
    for k in range(whole):
        exponent[k] = scale_block(x + k * SHARING, code + k * SHARING, noise_of_block(noise, k, nearest), spread,
                                  octaves)
    if rest:
        memset(last, 0, sizeof(last))
        memcpy(last, x + whole * SHARING, rest * sizeof(real))
        exponent[whole] = scale_block(last, encoded, noise_of_block(noise, whole, nearest), spread, octaves)
        memcpy(code + whole * SHARING, encoded, rest)


cdef void decode_int8(const void* stored, const void* scales, void* values, Py_ssize_t n) noexcept nogil:
    decode_blocks(<const int8_t*> stored, <const int8_t*> scales, <real*> values, n, True)


cdef void encode_int8(const void* values, void* stored, void* scales, Py_ssize_t n, uint32_t noise,
                      bint nearest) noexcept nogil:
    encode_blocks(<const real*> values, <uint8_t*> stored, <int8_t*> scales, n, noise, nearest, SIGNED)


cdef void decode_int8_unsigned(const void* stored, const void* scales, void* values, Py_ssize_t n) noexcept nogil:
    decode_blocks(<const int8_t*> stored, <const int8_t*> scales, <real*> values, n, False)


cdef void encode_int8_unsigned(const void* values, void* stored, void* scales, Py_ssize_t n, uint32_t noise,
                               bint nearest) noexcept nogil:
    encode_blocks(<const real*> values, <uint8_t*> stored, <int8_t*> scales, n, noise, nearest, UNSIGNED)


cdef void bind_format(const char* name, int bytes, bint scaled, Decode decode, Encode encode,
                      const uint32_t* places=NULL) noexcept:
    cdef KernelRow* row = new_row(name, FORMAT)
    row.format.bytes, row.format.scaled, row.format.decode, row.format.encode = bytes, scaled, decode, encode
    row.format.places = places


bind_format("bfloat16", 2, False, decode_bfloat16, encode_bfloat16, SPREAD)
bind_format("float16", 2, False, decode_float16, encode_float16)
if sizeof(real) == 4:            # what parameters of 16 bits are stepped in
    bind_format("split", 2, False, decode_split, encode_split)
    bind_format("kahan_bfloat16", 2, False, decode_kahan_bfloat16, encode_kahan_bfloat16)
    bind_format("kahan_float16", 2, False, decode_kahan_float16, encode_kahan_float16)
bind_format("other", 12 - sizeof(real), False, decode_other, NULL)
bind_format("int8", 1, True, decode_int8, encode_int8)
bind_format("int8_unsigned", 1, True, decode_int8_unsigned, encode_int8_unsigned)
