# What the driver and the kernels share: the tables that a launch reads, and the type of every pointer between them.
#
# Addresses are void*, since the driver doesn't know the float type; a kernel module knows one, its own.

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "shared.h":
    const char* TABLE            # what a capsule of a row is called, with a hash of the declarations it was built from

cdef enum:
    SLOTS = 5                    # state arrays that a rule can have
    HYPER = 32                   # coefficients that a rule can have, the common ones included
    SCALARS = 8                  # float64 coefficients of what comes between two passes
    NUMBERS = 4                  # what a pass can measure of an element
    PASSES = 3                   # passes that measure before the last one, a modifier's included
    OWN = 4                      # fields of a rule's struct that can differ from tensor to tensor
    BLOCK = 16384                # elements of a tensor that a thread takes at a time; defines the bits of sums, as do
    TILE = 1024                  # the elements that a pass works on at a time, the height of a large matrix's tiles,
    TILE_ROWS = 64
    LANES = 16                   # and the partial sums in double that are kept side by side
    SHARING = 128                # elements that share a scale, in a format that has some
    STORED = 2                   # state arrays, at most, of a rule that steps bfloat16 in registers
    MOVED = 3                    # squares that a watched step sums: of gradients, parameters, and how these have moved

cdef enum Kind:                  # of a row of the kernel table
    RULE
    VECTOR
    FORMAT
    MODIFIER

cdef enum How:                   # numbers of elements become one number
    SUM
    SQUARES                      # the sum of their squares
    PRODUCTS                     # the sum of their products with the number after it
    LARGEST                      # the largest magnitude; NaN if any is

cdef enum Scope:                 # what they are combined over
    TENSOR
    GROUP
    EVERYTHING
    ROWS                         # each of the equal parts of a tensor that are entries of their own
    LINES                        # each row and each column of the matrices in a tensor


cdef struct Entry:               # a tensor, or a row of one; 64 bytes: one cache line
    void* param
    void* grad                   # written only where zeroing was asked for: gradients belong to the caller
    void* state[SLOTS]
    Py_ssize_t size

cdef struct Span:                # elements [begin, end) of one entry, in one block
    Py_ssize_t entry
    Py_ssize_t begin
    Py_ssize_t end

cdef struct Own:                 # what the numbers of a tensor, or of more, have made of its last pass
    bint cancelled               # there is none
    double keep                  # p = keep * p - scale * update
    double scale
    double against               # takes the place of `scale` where update and gradient have not the same sign
    double field[OWN]            # the first fields of the rule's struct

cdef struct Lines:               # an entry's last two axes as matrices, one behind the other in memory
    Py_ssize_t matrices
    Py_ssize_t rows              # of each, as they lie in memory, where the two axes may have changed places
    Py_ssize_t columns
    bint flipped
    double* row_sums             # of matrices of more than TILE elements: matrix x tile across x row,
    double* column_sums          # and matrix x tile down x column
    void* row_factors            # likewise: matrix x row,
    void* column_factors         # and matrix x column; an element's value is the product of its two factors

ctypedef void (*Decode)(const void* stored, const void* scales, void* values, Py_ssize_t n) noexcept nogil
# `noise`: random bits for the first element, where it isn't rounded to the nearest
ctypedef void (*Encode)(const void* values, void* stored, void* scales, Py_ssize_t n, uint32_t noise,
                        bint nearest) noexcept nogil

cdef struct Format:              # how a state array is stored
    int bytes                    # of an element
    bint scaled                  # SHARING elements share a scale of one byte, in another array
    Decode decode
    Encode encode
    const uint32_t* places       # random bits of each of SHARING elements, where rules step it in registers; or NULL

cdef struct Beside:              # what an entry has in another type than the float type, a parameter's own entry alone
    const Format* gradient       # how its gradient is stored; NULL: as the float type,
    void* lacking                # and what is missing to it, where another parameter of 16 bits is read as one
    const Format* parameter      # how the parameter is stored, in 16 bits; NULL: as the float type,
    void* rest                   # and what it lacks, in 16 more, or NULL
    const Format* copy_format    # and a copy of the parameter, in 16 bits, that steps write
    void* copy
    bint heeded                  # the copy is what users know: where it isn't the parameter rounded, they have set it

cdef struct Scales:              # an entry's, of the state arrays that have some
    void* of[SLOTS]

cdef struct Rounding:            # of what is encoded
    uint64_t key                 # of the step's noise
    bint nearest

cdef struct Sums:                # what a pass has measured
    const double* of             # NUMBERS of them
    double count                 # elements

cdef struct Tile:                # elements side by side, of the arrays themselves or of copies
    const void* hyper
    Py_ssize_t n
    void* p
    const void* g
    void* s[SLOTS]
    void* y[NUMBERS]             # what is yielded for each

cdef struct Random:              # for a tile of at most SHARING elements, by which bfloat16 is rounded
    uint32_t of[STORED]          # a state array's
    const uint32_t* places       # and each element's own

ctypedef void (*StepHalves)(const Tile* t, const Random* random) noexcept nogil

cdef struct Work

# Spans first, ..., last - 1 of a launch; or its tile alone.
ctypedef void (*Sweep)(const Work* a, Py_ssize_t first, Py_ssize_t last) noexcept nogil
# Makes a tensor's own numbers of sums.  `state`: scalars that it moves, NULL where there are none; a tensor's own, or
# totals of the group where the pass is of a group or of everything.  0 cancels the last pass; scalars stand still then.
ctypedef bint (*Between)(const double* c, const Sums* sums, double* state, Own* own) noexcept nogil
# The same for matrices first, ..., last - 1 of an entry: moves their state by the sums of their lines, and makes
# factors of it; either where the pointers are not NULL, which point to the first of these matrices.
ctypedef void (*BetweenLines)(const double* c, const Entry* entry, const Lines* lines, Py_ssize_t first,
                              Py_ssize_t last, const double* row_sums, const double* column_sums, void* row_factors,
                              void* column_factors) noexcept nogil

# The same for all rows of a tensor at once: sums are row x NUMBERS, `own` and `entries` those of the rows.  State that
# has a number for each row lies side by side, from where that of the first one points to.
ctypedef void (*BetweenRows)(const void* hyper, const double* c, const double* sums, Py_ssize_t rows,
                             const Entry* entries, Own* own) noexcept nogil

cdef struct Pass:                # one that measures
    Sweep measure                # of a tile
    bint of_update               # it finds in y[0] the update that the last pass will make
    int numbers
    How how[NUMBERS]
    Scope scope
    bint moves                   # it stores the state that it has moved
    bint state_unread            # it needs the parameter and the gradient alone
    Between between
    BetweenLines between_lines
    BetweenRows between_rows

# A block of vectors: outputs first; results are sums, then maxima.
ctypedef void (*VectorKernel)(void** v, Py_ssize_t count, const double* c, Py_ssize_t n, double* results) noexcept nogil

cdef struct KernelRow:           # a row of the kernel table; what it holds depends on its kind
    Kind kind
    int itemsize                 # of the float type
    # RULE, MODIFIER
    Sweep run                    # the rule inlined in the loop over spans, or over a tile
    StepHalves step_halves       # and in the one over a tile whose state is all in bfloat16; or NULL
    bint whole                   # it writes the parameter itself instead of yielding an update
    bint gradient_unread         # the last pass needs the state alone
    Sweep measure_spans          # of any rule: what a pass measures,
    Sweep measure_lines
    Sweep finish_lines
    Sweep last_spans             # and the last pass
    Sweep watched_spans          # around `run`, or the last pass, where the step is watched
    Pass passes[PASSES]
    int n_passes
    const Pass* lines            # the one of them that makes an element's value of its row and column, or NULL
    int slots                    # state arrays of the parameter's shape, or
    int line_states              # of its lines, or rows
    bint by_rows                 # the rows of a parameter are its entries
    int own                      # fields of the rule's struct that Own.field takes the place of
    int own_scalars              # scalars of state, the last, that what comes behind a pass moves for each tensor
    # VECTOR
    VectorKernel vector
    int sums
    int maxima
    int first_row                # where the rows begin among the vectors, and the sums of each
    int per_row
    # FORMAT
    Format format

cdef struct Work:                # of one launch in one pass
    const Entry* entries
    const Span* spans
    const void* hyper            # HYPER numbers of the float type: the common ones, then the rule's struct
    bint zero_grad               # leave zeros in the gradient
    const Tile* tile             # NULL: spans
    # for rules that are not swept at once
    const KernelRow* rule
    const double* scalars        # SCALARS of them: the coefficients of what comes between two passes
    const Pass* measuring        # NULL in the last pass
    const Format* formats[SLOTS]         # of the state; NULL: the float type itself
    const Scales* scales         # of each entry, or NULL
    const Py_ssize_t* offsets    # of each entry's first element in its tensor, or NULL: all are whole
    Rounding rounding
    const Beside* beside         # of the first n_beside entries
    Py_ssize_t n_beside
    const Own* own               # of each entry
    bint cautious_decay          # `keep` is for elements that decay and update move the same way
    const Lines* lines           # of each entry, or NULL
    double* sums                 # span x NUMBERS, for what is measured
    Sweep inner                  # what `watched_spans` measures,
    double* squares              # span x MOVED, or NULL
