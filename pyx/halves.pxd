# The loop over elements whose state is all in bfloat16, which is widened and rounded in registers: for the rules that
# most programs run.  This costs little, since it is done while the CPU waits for roots, quotients and memory; tiles
# are decoded, stepped and encoded one after the other.  The bits are those of formats.pxi.  Large tensors are fetched
# ahead: by itself, the CPU looks too few elements ahead in so long a loop.

from libc.stdint cimport int32_t, uint16_t, uint32_t
from libc.string cimport memset

from .noise cimport GOLDEN, noise_of
from .real cimport bits_of_single, const_real_array, fetch, real, real_array, widened
from .sweep cimport Common, Update, own_struct, scale_and_clip
from .table cimport SHARING, STORED, TILE, Entry, Random, Tile, Work

cdef extern from *:
    """
    typedef uint16_t *OPTIMLITE_RESTRICT half_array;
    typedef const uint32_t *OPTIMLITE_RESTRICT place_array;
    """
    ctypedef uint16_t* half_array
    ctypedef const uint32_t* place_array

cdef extern from "narrow.h":
    const bint AVX2 "OPTIMLITE_NARROW"   # or more

cdef enum:
    MAGNITUDE = 0x7fffffff       # a float32 without its sign
    INFINITE = 0x7f800000        # NaN is beyond
    LAST_BFLOAT16 = 0x7f7f0000   # the largest that is finite
    QUIET = 0x7fc00000           # NaN
    LARGE = 131072               # elements of a tensor that the second-level cache doesn't hold
    AHEAD = 512                  # elements between the one that is stepped and those that are fetched


cdef inline uint16_t rounded(uint32_t bits, uint32_t random) noexcept nogil:
    # to a bfloat16, up as often as makes the mean right; by 0x8000, to the nearest
    return <uint16_t> ((bits + random) >> 16)


cdef inline void round_special(const_real_array x, half_array half, Py_ssize_t n) noexcept nogil:
    # once more: what is finite stays finite, infinity and NaN what they are
    cdef uint32_t bits
    cdef int32_t size
    cdef Py_ssize_t i
    for i in range(n):
        bits = bits_of_single(<float> x[i])
        size = <int32_t> (bits & MAGNITUDE)
        if size >= LAST_BFLOAT16:
            half[i] = <uint16_t> ((QUIET if size > INFINITE else bits) >> 16)


cdef inline int32_t update_halves(Update update, int slots, const Common* common, const void* hyper, Py_ssize_t n,
                                  real_array p, const_real_array g, half_array s0, half_array s1, real_array x0,
                                  real_array x1, uint32_t random0, uint32_t random1,
                                  place_array places) noexcept nogil:
    # The largest magnitude of the state, which is left in x0 and x1, too.
    cdef real grad_scale = common.grad_scale, max_abs = common.max_abs, l2 = common.l2, keep = common.keep
    cdef bint coupled = l2 != <real> 0
    cdef uint32_t bits
    cdef int32_t size, largest = 0
    cdef real x, grad
    cdef real s[STORED]
    cdef Py_ssize_t i
    for i in range(n):
        x = p[i]
        grad = scale_and_clip(g[i], grad_scale, max_abs)
        grad = grad + l2 * x if coupled else grad
        s[0] = widened(s0[i])
        if slots > 1: s[1] = widened(s1[i])
        p[i] = keep * x - update(hyper, x, grad, s)
        x0[i] = s[0]
        bits = bits_of_single(<float> s[0])
        size = <int32_t> (bits & MAGNITUDE)
        largest = size if size > largest else largest
        s0[i] = rounded(bits, random0 ^ places[i])
        if slots > 1:
            x1[i] = s[1]
            bits = bits_of_single(<float> s[1])
            size = <int32_t> (bits & MAGNITUDE)
            largest = size if size > largest else largest
            s1[i] = rounded(bits, random1 ^ places[i])
    return largest


cdef inline void step_halves(Update update, int slots, const Tile* t, const Random* random) noexcept nogil:
    # at most SHARING elements
    cdef int k
    if update_halves(update, slots, <const Common*> t.hyper, own_struct(t.hyper), t.n, <real*> t.p, <const real*> t.g,
                     <half_array> t.s[0], <half_array> t.s[1], <real*> t.y[0], <real*> t.y[1], random.of[0],
                     random.of[1], random.places) >= LAST_BFLOAT16:
        for k in range(slots):
            round_special(<const real*> t.y[k], <half_array> t.s[k], t.n)


cdef inline void sweep_halves(const Work* a, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    # all state in bfloat16, rounded at random
    cdef Random random
    cdef Tile t
    cdef real unrounded[STORED][SHARING]
    cdef uint32_t noise[STORED]
    cdef const Entry* e
    cdef Py_ssize_t j, at, end
    cdef int k
    memset(&t, 0, sizeof(t))
    memset(&random, 0, sizeof(random))
    t.hyper, random.places = a.hyper, a.formats[0].places
    for k in range(STORED):
        t.y[k] = unrounded[k]
    for j in range(first, last):
        e, at, end = &a.entries[a.spans[j].entry], a.spans[j].begin, a.spans[j].end
        while at < end:
            for k in range(a.rule.slots):
                if at % TILE == 0 or at == a.spans[j].begin:
                    noise[k] = noise_of(a, a.spans[j].entry, k, at)
                random.of[k] = noise[k] >> 16
                noise[k] += <uint32_t> GOLDEN
                t.s[k] = <uint16_t*> e.state[k] + at
            if e.size >= LARGE and at + AHEAD + SHARING <= end:
                fetch(<const char*> (<real*> e.param + at + AHEAD), SHARING * sizeof(real))
                fetch(<const char*> (<const real*> e.grad + at + AHEAD), SHARING * sizeof(real))
                for k in range(a.rule.slots):
                    fetch(<const char*> (<uint16_t*> e.state[k] + at + AHEAD), SHARING * sizeof(uint16_t))
            t.n, t.p, t.g = min(<Py_ssize_t> SHARING, end - at), <real*> e.param + at, <const real*> e.grad + at
            a.rule.step_halves(&t, &random)
            at += SHARING
        if a.zero_grad:
            memset((<real*> e.grad) + a.spans[j].begin, 0, (end - a.spans[j].begin) * sizeof(real))
