# Not for use: state in the upper half of a float32's bits, to show that a rule doesn't know how its state is stored.

cdef void decode_toy(const void* stored, void* values, Py_ssize_t n) noexcept nogil:
    cdef const uint16_t* half = <const uint16_t*> stored
    cdef real_array x = <real*> values
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = <real> single_of((<uint32_t> half[i]) << 16)


cdef void encode_toy(const void* values, void* stored, Py_ssize_t n) noexcept nogil:
    # to the nearest, ties to even
    cdef const_real_array x = <const real*> values
    cdef uint16_t* half = <uint16_t*> stored
    cdef uint32_t bits
    cdef Py_ssize_t i
    for i in range(n):
        bits = bits_of_single(<float> x[i])
        half[i] = <uint16_t> ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)


cdef KernelRow* toy = new_row("toy", FORMAT, {}, {})
toy.format.bytes, toy.format.decode, toy.format.encode = 2, decode_toy, encode_toy
