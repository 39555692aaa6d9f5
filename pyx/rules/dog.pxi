# DoG and L-DoG: the rate is the largest distance from the start over the root of all squared gradients.
# Ivgi, Hinder & Carmon 2023.

cdef struct DoG:
    real first                   # 1 in a parameter's first step

cdef struct DoGScalars:          # of what moves the largest distance, and the sum of squares
    double lr
    double reps_rel
    double eps
    double init_eta              # of the first step; 0: as large as reps_rel says


cdef inline void dog_distance(const void* hyper, real p, real g, real* s, real* y) noexcept nogil:
    s[0] = p if (<const DoG*> hyper).first != <real> 0 else s[0]
    y[0], y[1], y[2] = g, p - s[0], p


cdef bint dog_rate(const double* c, const Sums* sums, double* state, Own* own) noexcept nogil:
    # the sum of squares is 0 before the first step alone
    cdef const DoGScalars* h = <const DoGScalars*> c
    cdef bint begins = state[1] == 0.0
    cdef double distance = double_sqrt(sums.of[1]), squares = state[1] + sums.of[0], rate
    if begins:
        distance, squares = h.reps_rel * (1.0 + double_sqrt(sums.of[2])), squares + h.eps
    if squares == 0.0:
        return False
    state[0], state[1] = distance if distance > state[0] else state[0], squares
    rate = h.lr * state[0] / double_sqrt(squares)
    if begins and h.init_eta > 0.0:
        state[0], rate = 0.0, h.init_eta
    own.scale = own.against = rate
    return True


cdef inline real dog(const void* hyper, real p, real g, real* s) noexcept nogil:
    return g


cdef void run_dog_distance(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    measure(dog_distance, 1, 3, w.tile)
cdef void run_dog(const Work* w, Py_ssize_t i, Py_ssize_t j) noexcept nogil: last_pass(dog, 0, w.tile)

measured(bind("dog", run_dog, 1, "DoG", "DoGScalars"),
         run_dog_distance, GROUP, dog_rate, SQUARES, SQUARES, SQUARES).moves = True
measured(owns(0, bind("ldog", run_dog, 1, "DoG", "DoGScalars"), 2),
         run_dog_distance, TENSOR, dog_rate, SQUARES, SQUARES, SQUARES).moves = True
