# How entries are cut into spans, and these gathered into jobs for the threads.

cdef int new_cut(Cut* cut, Py_ssize_t spans) except -1:
    free_cut(cut)
    cut.spans = <Span*> PyMem_Malloc((spans + 1) * sizeof(Span))
    cut.first_span = <Py_ssize_t*> PyMem_Malloc((spans + 2) * sizeof(Py_ssize_t))
    if not (cut.spans and cut.first_span):
        raise MemoryError
    return 0


cdef void free_cut(Cut* cut) noexcept:
    PyMem_Free(cut.spans)
    PyMem_Free(cut.first_span)
    cut.spans, cut.first_span = NULL, NULL
    cut.n_spans = cut.n_jobs = 0


cdef void begin_cohort(Cut* cut, Py_ssize_t cohort) noexcept:
    cut.first_job[cohort] = cut.n_jobs
    cut.weight = BLOCK                   # a job is of one cohort
    cut.first_span[cut.n_jobs] = cut.n_spans


cdef void add_spans(Cut* cut, Py_ssize_t entry, Py_ssize_t count, Py_ssize_t most, Py_ssize_t unit) noexcept:
    # `count` units of so many elements, at most `most` in a span
    cdef Py_ssize_t begin = 0
    cdef Span* span
    while begin < count:
        if cut.weight >= BLOCK:
            cut.first_span[cut.n_jobs] = cut.n_spans
            cut.n_jobs += 1
            cut.weight = 0
        span = &cut.spans[cut.n_spans]
        span.entry, span.begin, span.end = entry, begin, min(begin + most, count)
        cut.weight += (span.end - begin) * unit + TENSOR_COST
        cut.n_spans += 1
        begin = span.end
    cut.first_span[cut.n_jobs] = cut.n_spans


cdef inline bint is_large(const Lines* lines) noexcept nogil:
    return lines.rows * lines.columns > TILE


cdef inline Py_ssize_t tiles_of(const Lines* lines) noexcept nogil:
    return lines.matrices * ((lines.columns + TILE - 1) // TILE) * ((lines.rows + TILE_ROWS - 1) // TILE_ROWS)
