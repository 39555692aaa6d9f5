# Launches that aren't swept at once: passes that measure, and the last one, for any rule, a tile of elements at a time.
#
# What a rule yields for a tile goes into a buffer, which stays in the first-level cache; what is done with it stands
# here once for all rules, and so does how state is stored.

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from .halves cimport sweep_halves
from .lanes cimport itself, largest_magnitude, product, square, sum_lanes, total
from .noise cimport noise_of
from .real cimport const_real_array, double_array, fetch, infinity, larger, real, real_array, sign
from .sweep cimport Common, scale_and_clip
from .table cimport (HYPER, LANES, LARGEST, NUMBERS, PRODUCTS, SHARING, SLOTS, SQUARES, SUM, TILE, TILE_ROWS, Beside,
                     Entry, Format, Lines, Own, Pass, Span, Work, Tile)

cdef struct Room:
    real state[SLOTS][TILE]
    real y[NUMBERS][TILE]
    real p[TILE]                         # parameters of 16 bits
    uint16_t halves[TILE]
    real g[TILE]
    real read[TILE]                      # gradients that are stored in another type
    real row_factors[3 * TILE]           # of the matrices that a tile meets: the outer ones may reach beyond it
    real column_factors[3 * TILE]


cdef inline void take_own(const Work* a, Py_ssize_t entry, real* hyper) noexcept nogil:
    # the entry's own fields in the rule's struct
    cdef Py_ssize_t k
    for k in range(a.rule.own):
        hyper[sizeof(Common) // sizeof(real) + k] = <real> a.own[entry].field[k]


cdef inline void multiply_factors(const Work* a, const Entry* entry, const Lines* lines, Py_ssize_t at,
                                  Py_ssize_t n, real_array out, Room* room) noexcept nogil:
    # elements [at, at + n) of an entry whose state is stored as factors by row and by column
    cdef Py_ssize_t size = lines.rows * lines.columns, matrix = at // size, end = (at + n - 1) // size + 1
    cdef Py_ssize_t row = at // lines.columns, column = at - row * lines.columns, i = 0, stop, k
    cdef const_real_array row_factors
    cdef const_real_array column_factors
    cdef real factor
    if size > TILE:
        row_factors, column_factors = <const real*> lines.row_factors, <const real*> lines.column_factors
    else:                                # counted from the first of these matrices
        a.rule.lines.between_lines(a.scalars, entry, lines, matrix, end, NULL, NULL, room.row_factors,
                                   room.column_factors)
        row_factors, column_factors = room.row_factors, room.column_factors
        row -= matrix * lines.rows
        matrix = 0
    if size == 1:
        for i in range(n):
            out[i] = row_factors[i] * column_factors[i]
        return
    while i < n:
        stop = min(n, i + lines.columns - column)
        factor = row_factors[row]
        matrix = row // lines.rows
        for k in range(stop - i):
            out[i + k] = factor * column_factors[matrix * lines.columns + column + k]
        i, row, column = stop, row + 1, 0


cdef inline const real* finished(const Common* common, Py_ssize_t n, const_real_array p, const_real_array g,
                                 real_array out) noexcept nogil:
    # the gradients as the rule sees them: in place where nothing changes them
    cdef real grad_scale = common.grad_scale, max_abs = common.max_abs, l2 = common.l2
    cdef Py_ssize_t i
    if grad_scale == <real> 1 and max_abs == infinity and l2 == <real> 0:
        return g
    for i in range(n):
        out[i] = scale_and_clip(g[i], grad_scale, max_abs)
    if l2 != <real> 0:                   # not `+ 0 * p`: an infinite p would turn NaN
        for i in range(n):
            out[i] = out[i] + l2 * p[i]
    return out


cdef inline const Format* format_of_gradient(const Work* a, Py_ssize_t entry) noexcept nogil:
    return a.beside[entry].gradient if entry < a.n_beside else NULL


cdef inline const real* read_gradient(const Work* a, Py_ssize_t entry, Py_ssize_t at, Py_ssize_t n,
                                      real* room) noexcept nogil:
    # gradients in place, or as the float type
    cdef const Format* format = format_of_gradient(a, entry)
    if format == NULL:
        return (<const real*> a.entries[entry].grad) + at
    format.decode(<const char*> a.entries[entry].grad + at * format.bytes, half_at(a.beside[entry].lacking, at), room,
                  n)
    return room


cdef inline void* half_at(void* halves, Py_ssize_t at) noexcept nogil:
    return <uint16_t*> halves + at if halves != NULL else NULL


cdef inline void heed(const Beside* beside, Py_ssize_t at, Py_ssize_t n, real* p, Room* room) noexcept nogil:
    # takes over what somebody has written to the copy
    cdef const uint16_t* copy = <const uint16_t*> beside.copy + at
    cdef Py_ssize_t i
    beside.copy_format.encode(p, room.halves, NULL, n, 0, True)
    if memcmp(room.halves, copy, n * sizeof(uint16_t)):
        beside.copy_format.decode(copy, NULL, room.p, n)
        for i in range(n):
            p[i] = p[i] if room.halves[i] == copy[i] else room.p[i]


cdef inline real* read_parameter(const Work* a, Py_ssize_t entry, Py_ssize_t at, Py_ssize_t n,
                                 real* room) noexcept nogil:
    # in place, or joined of itself and what it lacks
    cdef const Beside* beside = &a.beside[entry] if entry < a.n_beside else NULL
    if beside == NULL or beside.parameter == NULL:
        return (<real*> a.entries[entry].param) + at
    beside.parameter.decode(<const uint16_t*> a.entries[entry].param + at, half_at(beside.rest, at), room, n)
    return room


cdef inline real* open_parameter(const Work* a, Py_ssize_t entry, Py_ssize_t at, Py_ssize_t n,
                                 Room* room) noexcept nogil:
    if entry < a.n_beside and a.beside[entry].heeded:
        heed(&a.beside[entry], at, n, (<real*> a.entries[entry].param) + at, room)
    return read_parameter(a, entry, at, n, room.p)


cdef inline void zero_gradient(const Work* a, Py_ssize_t entry, Py_ssize_t at, Py_ssize_t n) noexcept nogil:
    cdef const Format* format = format_of_gradient(a, entry)
    cdef Py_ssize_t bytes = format.bytes if format != NULL else sizeof(real)
    memset(<char*> a.entries[entry].grad + at * bytes, 0, n * bytes)


cdef inline void* scales_at(const Work* a, Py_ssize_t entry, int k, Py_ssize_t at) noexcept nogil:
    return <char*> a.scales[entry].of[k] + at // SHARING if a.formats[k].scaled else NULL


cdef inline void open_tile(const Work* a, Py_ssize_t entry, Py_ssize_t at, Py_ssize_t n, bint with_gradient, Room* room,
                           Tile* t) noexcept nogil:
    # Where the elements of a tile are: in place, or decoded, or copied where what happens to their state is forgotten.
    cdef const Entry* e = &a.entries[entry]
    cdef const Format* format
    cdef int k
    t.n, t.p = n, open_parameter(a, entry, at, n, room)
    t.g = t.p                            # to be read, and not used
    if with_gradient:
        t.g = finished(<const Common*> t.hyper, n, <const real*> t.p, read_gradient(a, entry, at, n, room.read), room.g)
    if a.measuring != NULL and a.measuring.state_unread:
        return
    for k in range(a.rule.slots):
        format = a.formats[k]
        if format != NULL:
            format.decode(<const char*> e.state[k] + at * format.bytes, scales_at(a, entry, k, at), room.state[k], n)
            t.s[k] = room.state[k]
        elif a.measuring != NULL and not a.measuring.moves:
            memcpy(room.state[k], (<const real*> e.state[k]) + at, n * sizeof(real))
            t.s[k] = room.state[k]
        else:
            t.s[k] = (<real*> e.state[k]) + at
    if a.rule.lines != NULL:
        multiply_factors(a, e, &a.lines[entry], at, n, room.state[a.rule.slots], room)
        t.s[a.rule.slots] = room.state[a.rule.slots]


cdef inline void close_parameter(const Work* a, Py_ssize_t entry, Py_ssize_t at, const Tile* t) noexcept nogil:
    # when it has moved: it and what it lacks, or a copy, to the nearest
    cdef const Beside* beside = &a.beside[entry] if entry < a.n_beside else NULL
    if beside == NULL:
        return
    if beside.parameter != NULL:
        beside.parameter.encode(t.p, <uint16_t*> a.entries[entry].param + at, half_at(beside.rest, at), t.n,
                                noise_of(a, entry, SLOTS, at), a.rounding.nearest)
    elif beside.copy != NULL:
        beside.copy_format.encode(t.p, <char*> beside.copy + at * beside.copy_format.bytes, NULL, t.n, 0, True)


cdef inline void close_tile(const Work* a, Py_ssize_t entry, Py_ssize_t at, const Tile* t) noexcept nogil:
    cdef const Format* format
    cdef int k
    for k in range(a.rule.slots):
        format = a.formats[k]
        if format != NULL:
            format.encode(t.s[k], <char*> a.entries[entry].state[k] + at * format.bytes, scales_at(a, entry, k, at),
                          t.n, noise_of(a, entry, k, at), a.rounding.nearest)


cdef inline void begin_tiles(const Work* a, Work* tiled, Tile* t, real* hyper, Room* room) noexcept nogil:
    # the arguments by which rules find the tile
    cdef int q
    memset(t, 0, sizeof(Tile))
    memcpy(hyper, a.hyper, HYPER * sizeof(real))
    t.hyper = hyper
    for q in range(NUMBERS):
        t.y[q] = room.y[q]
    tiled[0] = a[0]
    tiled.tile = t


cdef inline void combine(const Pass* measuring, const Tile* t, double* sums) noexcept nogil:
    cdef const real* x
    cdef int k
    for k in range(measuring.numbers):
        x = <const real*> t.y[k]
        if measuring.how[k] == SQUARES:
            sums[k] += total(square, x, x, t.n, False)
        elif measuring.how[k] == SUM:
            sums[k] += total(itself, x, x, t.n, False)
        elif measuring.how[k] == PRODUCTS:
            sums[k] += total(product, x, <const real*> t.y[k + 1], t.n, False)
        elif measuring.how[k] == LARGEST:
            sums[k] = larger(sums[k], largest_magnitude(x, t.n))


cdef inline void measure_spans(const Work* a, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef const Pass* measuring = a.measuring
    cdef Work tiled
    cdef Tile t
    cdef Room room
    cdef real hyper[HYPER]
    cdef Py_ssize_t k, at, end, entry
    begin_tiles(a, &tiled, &t, hyper, &room)
    for k in range(first, last):
        entry, at, end = a.spans[k].entry, a.spans[k].begin, a.spans[k].end
        take_own(a, entry, hyper)
        memset(a.sums + k * NUMBERS, 0, NUMBERS * sizeof(double))
        while at < end:
            open_tile(a, entry, at, min(<Py_ssize_t> TILE, end - at), True, &room, &t)
            if measuring.of_update:
                a.rule.run(&tiled, 0, 0)
            measuring.measure(&tiled, 0, 0)
            combine(measuring, &t, a.sums + k * NUMBERS)
            if measuring.moves:
                close_tile(a, entry, at, &t)
            at += t.n


cdef inline void apply(Py_ssize_t n, real_array p, const_real_array g, const_real_array update, real keep,
                       real otherwise, real scale, real against) noexcept nogil:
    # `otherwise` takes the place of `keep` where the update makes p no smaller
    cdef real factor, kept
    cdef Py_ssize_t i
    if scale == against and keep == otherwise:
        for i in range(n):
            p[i] = keep * p[i] - scale * update[i]
    else:
        for i in range(n):
            factor = scale if sign(update[i]) * sign(g[i]) > <real> 0 else against
            kept = keep if sign(update[i]) * sign(p[i]) > <real> 0 else otherwise
            p[i] = kept * p[i] - factor * update[i]


cdef enum:
    STRETCH = 512                # elements that are fetched while those before them are stepped


cdef inline void fetch_tile(const Work* a, Py_ssize_t entry, Py_ssize_t at, Py_ssize_t n) noexcept nogil:
    cdef const Entry* e = &a.entries[entry]
    cdef const Format* format = format_of_gradient(a, entry)
    cdef Py_ssize_t bytes = format.bytes if format != NULL else sizeof(real)
    cdef Py_ssize_t own = sizeof(uint16_t) if entry < a.n_beside and a.beside[entry].parameter != NULL else sizeof(real)
    cdef int k
    fetch(<const char*> e.param + at * own, n * own)
    fetch(<const char*> e.grad + at * bytes, n * bytes)
    for k in range(a.rule.slots):
        bytes = a.formats[k].bytes if a.formats[k] != NULL else sizeof(real)
        fetch(<const char*> e.state[k] + at * bytes, n * bytes)


cdef inline void sweep_decoded(const Work* a, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    # A rule of one pass, whose state or gradient is stored in a format, or which leaves a copy of the parameter: swept
    # as ever, a tile at a time in the place of a tensor.
    cdef Work swept = a[0]
    cdef Entry tile
    cdef Span span
    cdef Tile t
    cdef Room room
    cdef Py_ssize_t j, at, end, entry
    cdef int k
    memset(&t, 0, sizeof(Tile))
    swept.entries, swept.spans = &tile, &span
    span.entry = span.begin = 0
    for j in range(first, last):
        entry, at, end = a.spans[j].entry, a.spans[j].begin, a.spans[j].end
        while at < end:
            open_tile(a, entry, at, min(<Py_ssize_t> STRETCH, end - at), False, &room, &t)
            if at + t.n < end:
                fetch_tile(a, entry, at + t.n, min(<Py_ssize_t> STRETCH, end - at - t.n))
            tile.param, tile.grad, span.end = t.p, <void*> read_gradient(a, entry, at, t.n, room.read), t.n
            for k in range(SLOTS):
                tile.state[k] = t.s[k]
            a.rule.run(&swept, 0, 1)
            close_parameter(a, entry, at, &t)
            close_tile(a, entry, at, &t)
            at += t.n
        if a.zero_grad and format_of_gradient(a, entry) != NULL:         # what the rule has zeroed was read from it
            zero_gradient(a, entry, a.spans[j].begin, end - a.spans[j].begin)


cdef inline bint in_registers(const Work* a) noexcept nogil:
    # whether a rule that can steps its state there: all in bfloat16, and nothing else beside it
    cdef int k
    for k in range(a.rule.slots):
        if a.formats[k] == NULL or a.formats[k].places == NULL:
            return False
    return a.rule.step_halves != NULL and a.n_beside == 0 and not a.rounding.nearest


cdef inline void last_spans(const Work* a, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef Work tiled
    cdef Tile t
    cdef Room room
    cdef real hyper[HYPER]
    cdef real keep, scale, against
    cdef bint reads
    cdef Py_ssize_t k, at, end, entry
    if a.own == NULL:
        if in_registers(a):
            sweep_halves(a, first, last)
        else:
            sweep_decoded(a, first, last)
        return
    begin_tiles(a, &tiled, &t, hyper, &room)
    for k in range(first, last):
        entry, at, end = a.spans[k].entry, a.spans[k].begin, a.spans[k].end
        take_own(a, entry, hyper)
        reads = not a.rule.gradient_unread
        keep, scale, against = <real> a.own[entry].keep, <real> a.own[entry].scale, <real> a.own[entry].against
        while at < end and not a.own[entry].cancelled:
            open_tile(a, entry, at, min(<Py_ssize_t> TILE, end - at), reads or scale != against, &room, &t)
            a.rule.run(&tiled, 0, 0)
            if not a.rule.whole:
                apply(t.n, <real*> t.p, <const real*> t.g if t.g != NULL else room.y[0], room.y[0], keep,
                      <real> 1 if a.cautious_decay else keep, scale, against)
            close_parameter(a, entry, at, &t)
            close_tile(a, entry, at, &t)
            at += t.n
        if a.zero_grad:
            zero_gradient(a, entry, a.spans[k].begin, end - a.spans[k].begin)


# Sums of squares by row and by column.  A row's are in lanes over at most TILE columns, a column's from the first row
# on over at most TILE_ROWS rows, and tiles are added in order.

cdef inline double few_squares(const real* x, Py_ssize_t n) noexcept nogil:
    # as `total` has them: the lanes that are not there are 0
    cdef double lane[4]
    cdef Py_ssize_t i
    if n > 4:
        return total(square, x, x, n, False)
    for i in range(4):
        lane[i] = 0.0
    for i in range(n):
        lane[i] = square(x[i], x[i])
    return (lane[0] + lane[2]) + (lane[1] + lane[3])


cdef inline double squares_of_row(const_real_array x, Py_ssize_t n, double_array column_sums) noexcept nogil:
    # as `total` has them, while each square is added to its column's, too
    cdef double lane[LANES]
    cdef double term
    cdef Py_ssize_t i, whole = n - n % LANES
    cdef int j
    for j in range(LANES):
        lane[j] = 0.0
    for i in range(n // LANES):
        for j in range(LANES):
            term = square(x[i * LANES + j], x[i * LANES + j])
            lane[j] = lane[j] + term
            column_sums[i * LANES + j] = column_sums[i * LANES + j] + term
    for i in range(whole, n):
        term = square(x[i], x[i])
        lane[i - whole] = lane[i - whole] + term
        column_sums[i] = column_sums[i] + term
    return sum_lanes(lane)


cdef inline void lines_of_rows(const_real_array x, Py_ssize_t rows, Py_ssize_t columns, double* row_sums,
                               double_array column_sums) noexcept nogil:
    # of `rows` rows one behind the other, beside what is in column_sums already
    cdef Py_ssize_t i, j
    for i in range(rows):
        row_sums[i] = few_squares(x + i * columns, columns)
        for j in range(columns):
            column_sums[j] = column_sums[j] + square(x[i * columns + j], x[i * columns + j])


cdef inline void measure_elements(const Work* tiled, Tile* t, const Entry* e, Py_ssize_t at, Py_ssize_t n,
                                  Room* room) noexcept nogil:
    t.n, t.p = n, (<real*> e.param) + at
    t.g = finished(<const Common*> t.hyper, n, <const real*> t.p,
                   read_gradient(tiled, e - tiled.entries, at, n, room.read), room.g)
    tiled.measuring.measure(tiled, 0, 0)


cdef inline void measure_small(const Work* tiled, Tile* t, const Entry* e, const Lines* lines, Py_ssize_t first,
                               Py_ssize_t last, Room* room) noexcept nogil:
    # whole matrices of at most TILE elements, whose sums serve at once
    cdef double row_sums[TILE]
    cdef double column_sums[TILE]
    cdef const real* x = <const real*> t.y[0]
    cdef Py_ssize_t size = lines.rows * lines.columns, most = TILE // size, count, i
    while first < last:
        count = min(most, last - first)
        measure_elements(tiled, t, e, first * size, count * size, room)
        if size == 1:
            for i in range(count):
                row_sums[i] = column_sums[i] = square(x[i], x[i])
        else:
            memset(column_sums, 0, count * lines.columns * sizeof(double))
            for i in range(count):
                lines_of_rows(x + i * size, lines.rows, lines.columns, row_sums + i * lines.rows,
                              column_sums + i * lines.columns)
        tiled.measuring.between_lines(tiled.scalars, e, lines, first, first + count, row_sums, column_sums, NULL, NULL)
        first += count


cdef inline void measure_large(const Work* tiled, Tile* t, const Entry* e, const Lines* lines, Py_ssize_t tile,
                               Room* room) noexcept nogil:
    # TILE_ROWS x TILE elements of a large matrix; these are counted from left to right, then down
    cdef Py_ssize_t across = (lines.columns + TILE - 1) // TILE, down = (lines.rows + TILE_ROWS - 1) // TILE_ROWS
    cdef Py_ssize_t band = tile // across, matrix = band // down
    cdef Py_ssize_t i, j = (tile - band * across), k = band - matrix * down
    cdef double* row_sums = lines.row_sums + (matrix * across + j) * lines.rows
    cdef double* column_sums = lines.column_sums + (matrix * down + k) * lines.columns + j * TILE
    cdef Py_ssize_t n = min(<Py_ssize_t> TILE, lines.columns - j * TILE)
    memset(column_sums, 0, n * sizeof(double))
    for i in range(k * TILE_ROWS, min((k + 1) * TILE_ROWS, lines.rows)):
        measure_elements(tiled, t, e, (matrix * lines.rows + i) * lines.columns + j * TILE, n, room)
        row_sums[i] = squares_of_row(<const real*> t.y[0], n, column_sums)


cdef inline void measure_lines(const Work* a, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    # spans of small matrices, or of tiles of large ones
    cdef Work tiled
    cdef Tile t
    cdef Room room
    cdef real hyper[HYPER]
    cdef const Lines* lines
    cdef Py_ssize_t k, tile, entry
    begin_tiles(a, &tiled, &t, hyper, &room)
    for k in range(first, last):
        entry = a.spans[k].entry
        lines = &a.lines[entry]
        take_own(a, entry, hyper)
        if lines.rows * lines.columns <= TILE:
            measure_small(&tiled, &t, &a.entries[entry], lines, a.spans[k].begin, a.spans[k].end, &room)
            continue
        for tile in range(a.spans[k].begin, a.spans[k].end):
            measure_large(&tiled, &t, &a.entries[entry], lines, tile, &room)


cdef inline void add_up(double_array x, Py_ssize_t count, Py_ssize_t n) noexcept nogil:
    # x[0] + x[1] + ... in x[0], of `count` vectors of n elements
    cdef Py_ssize_t k, i
    for k in range(1, count):
        for i in range(n):
            x[i] = x[i] + x[k * n + i]


cdef inline void finish_lines(const Work* a, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    # spans of large matrices
    cdef const Lines* lines
    cdef double* row_sums
    cdef double* column_sums
    cdef Py_ssize_t k, matrix, across, down
    for k in range(first, last):
        lines = &a.lines[a.spans[k].entry]
        across, down = (lines.columns + TILE - 1) // TILE, (lines.rows + TILE_ROWS - 1) // TILE_ROWS
        for matrix in range(a.spans[k].begin, a.spans[k].end):
            row_sums = lines.row_sums + matrix * across * lines.rows
            column_sums = lines.column_sums + matrix * down * lines.columns
            add_up(row_sums, across, lines.rows)
            add_up(column_sums, down, lines.columns)
            a.measuring.between_lines(a.scalars, &a.entries[a.spans[k].entry], lines, matrix, matrix + 1, row_sums,
                                      column_sums, (<real*> lines.row_factors) + matrix * lines.rows,
                                      (<real*> lines.column_factors) + matrix * lines.columns)
