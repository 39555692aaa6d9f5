"""L-BFGS, conjugate gradients and minimize over ranks that have different unknowns, or the same ones and other data."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import mpi

N, ITERATIONS = 30, 12


def chain(x: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[float, np.ndarray]:
    """Rosenbrock's valley along a chain: this part's terms, and the gradient by its unknowns, from its neighbours."""
    padded = np.concatenate([x, after])
    a, b = padded[1:] - padded[:-1] ** 2, 1 - padded[:-1]
    gradient = np.zeros_like(padded)
    gradient[:-1] = -4 * a * padded[:-1] - 0.2 * b
    gradient[1:] += 2 * a
    if before.size:
        gradient[0] += 2 * (x[0] - before[0] ** 2)
    return float(a @ a + 0.1 * b @ b), gradient[:x.size]


def part_of(comm: Any, x: np.ndarray) -> Callable[[], tuple[float, np.ndarray]]:
    def evaluate() -> tuple[float, np.ndarray]:
        ends = comm.allgather((x[:1].copy(), x[-1:].copy()))
        none = np.empty(0, x.dtype)
        return chain(x, ends[comm.rank - 1][1] if comm.rank else none,
                     ends[comm.rank + 1][0] if comm.rank + 1 < comm.size else none)

    return evaluate


def start(comm: Any | None = None) -> np.ndarray:
    x = np.where(np.arange(N) % 3, -1.2, 0.7)
    return x if comm is None else np.array_split(x, comm.size)[comm.rank].copy()


METHODS: dict[str, Callable[..., ol.Optimizer]] = {
    "lbfgs": lambda x, **more: ol.LBFGS([x], max_iter=ITERATIONS, line_search_fn="nocedal_wright", history_size=5,
                                        **more),
    "torch": lambda x, **more: ol.LBFGS([x], max_iter=ITERATIONS, line_search_fn="strong_wolfe", **more),
    "cg": lambda x, **more: ol.ConjugateGradient([x], max_iter=ITERATIONS, **more),
    "halves": lambda x, **more: ol.LBFGS([x], max_iter=ITERATIONS, line_search_fn="hager_zhang",
                                         history_dtype="bfloat16", **more),
    "inner": lambda x, **more: ol.LBFGS([x], max_iter=ITERATIONS, line_search_fn="nocedal_wright",
                                        inner=lambda u, v: float(u[0] @ v[0]), **more),
    "h0": lambda x, **more: ol.ConjugateGradient([x], max_iter=ITERATIONS, h0=0.1, **more),
    "bounds": lambda x, **more: ol.LBFGS([x], max_iter=ITERATIONS, line_search_fn="nocedal_wright",
                                         bounds=(-1.0, 0.9), **more),
}


def run(method: str, x: np.ndarray, evaluate: Callable[[], tuple[float, np.ndarray]], **more: Any) -> Any:
    opt: Any = METHODS[method](x, **more)

    def closure() -> tuple[float, list[np.ndarray]]:
        loss, gradient = evaluate()
        return loss, [gradient]

    first = opt.step(closure)
    return x, first, opt.result.loss, opt.result.iterations, opt.result.evaluations


@pytest.mark.parametrize("method", METHODS)
def test_many_ranks_go_the_way_of_one(method: str) -> None:
    none = np.empty(0)
    x = start()
    alone = run(method, x, lambda: chain(x, none, none))

    def train(comm: Any) -> Any:
        part = start(comm)
        return run(method, part, part_of(comm, part), comm=comm)

    [one] = mpi.simulate(1, train)
    assert one[0].tobytes() == alone[0].tobytes()
    assert one[1:] == alone[1:]
    found = mpi.simulate(3, train)
    assert len({each[1:] for each in found}) == 1                    # all ranks have the same numbers
    assert found[0][1] == pytest.approx(alone[1])
    assert found[0][3] == alone[3]
    np.testing.assert_allclose(np.concatenate([each[0] for each in found]), alone[0], rtol=1e-6)
    if method == "lbfgs":
        assert [each[0].tobytes() for each in mpi.simulate(3, train)] == [each[0].tobytes() for each in found]


@pytest.mark.parametrize("method", ["lbfgs", "cg"])
def test_minimize(method: str) -> None:
    none = np.empty(0)
    alone = ol.minimize(lambda x: chain(x, none, none), start(), method=method, jac=True)

    def train(comm: Any) -> Any:
        seen = []
        x = start(comm)

        def fun(values: np.ndarray) -> tuple[float, np.ndarray]:
            x[:] = values
            return part_of(comm, x)()

        found = ol.minimize(fun, start(comm), method=method, jac=True, comm=comm, callback=lambda x: seen.append(1))
        assert len(seen) == found.nit
        assert "hess_inv" not in found
        return found

    found = mpi.simulate(3, train)
    assert all(each.success and each.fun == found[0].fun for each in found)
    np.testing.assert_allclose(np.concatenate([each.x for each in found]), alone.x, atol=1e-3)


def test_any_rank_may_ask_to_stop_and_all_raise_where_one_does() -> None:
    def stops(comm: Any) -> Any:
        part = start(comm)
        seen: list[int] = []

        def callback(result: Any) -> bool:
            seen.append(1)
            return comm.rank == 1 and len(seen) == 4

        return run("lbfgs", part, part_of(comm, part), comm=comm, callback=callback)[3]

    def raises(comm: Any) -> Any:
        part = start(comm)
        evaluate, calls = part_of(comm, part), []

        def fails() -> tuple[float, np.ndarray]:
            calls.append(1)
            found = evaluate()
            return found if len(calls) < 9 or comm.rank != 2 else (1 / 0, found[1])

        with pytest.raises((ZeroDivisionError, mpi.RankError), match="division by zero"):
            run("cg", part, fails, comm=comm)
        return part_of(comm, part)()[0]

    assert mpi.simulate(2, stops) == [4, 4]
    assert sum(mpi.simulate(3, raises)) < chain(start(), np.empty(0), np.empty(0))[0]     # at the last accepted point


def test_what_ranks_must_agree_in() -> None:
    def train(comm: Any) -> Any:
        part = start(comm)
        with pytest.raises(mpi.RankError, match="`history_size` is 5 on rank 0; `history_size` is 6 on rank 1"):
            run("lbfgs", part, part_of(comm, part), comm=comm) if comm.rank == 0 else ol.LBFGS(
                [part], max_iter=ITERATIONS, line_search_fn="nocedal_wright", history_size=6,
                comm=comm).step(lambda: 1.0)
        with pytest.raises(ValueError, match="`jac` must be True or a function"):
            ol.minimize(lambda x: float(x @ x), part, comm=comm)
        with pytest.raises(TypeError, match="`comm` must be a communicator"):
            ol.LBFGS([part], comm=3)

    mpi.simulate(2, train)


def lock(x: np.ndarray, opt: Any) -> None:
    x.flags.writeable = False


def put_another(x: np.ndarray, opt: Any) -> None:
    opt.param_groups[0]["params"] = (ol.Parameter(np.ones(3)),)


@pytest.mark.parametrize(("spoil", "message"), [(lock, "became read-only"), (put_another, "which the optimizer does")])
def test_what_one_rank_can_not_step_all_refuse(spoil: Callable[..., None], message: str) -> None:
    def train(comm: Any) -> None:
        x = np.arange(3.0) + comm.rank
        opt = ol.LBFGS([x], max_iter=1, line_search_fn="strong_wolfe", comm=comm)

        def closure() -> Any:
            return float(x @ x), [2 * x]

        opt.step(closure)
        before, own = x.copy(), opt.param_groups[0]["params"]
        if comm.rank == 1:
            spoil(x, opt)
        with pytest.raises(ValueError if comm.rank == 1 else mpi.RankError, match=message):
            opt.step(closure)
        assert (x == before).all()
        x.flags.writeable, opt.param_groups[0]["params"] = True, own
        opt.step(closure)

    mpi.simulate(2, train)


def test_a_rank_without_a_gradient_stands_still() -> None:
    def train(comm: Any) -> Any:
        x = np.full(2, 3.0)
        opt = ol.LBFGS([x], line_search_fn="nocedal_wright", comm=comm)
        opt.step(lambda: (float(x @ x), [2 * x]) if comm.rank else (0.0, [None]))
        return x.round(6).tolist()

    assert mpi.simulate(2, train) == [[3.0, 3.0], [0.0, 0.0]]


# The same unknowns on each rank --------------------------------------------------------------------------------------

def of_data(rank: int, x: np.ndarray) -> tuple[float, np.ndarray]:
    """A rank's terms of a logistic loss."""
    rows = np.random.default_rng(rank).standard_normal((20, x.size)).astype(x.dtype)
    odds = np.exp(-rows @ x)
    return float(np.log1p(odds).sum() + 0.1 * x @ x), -rows.T @ (odds / (1 + odds)) + x.dtype.type(0.2) * x


def product(rank: int, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    rows = np.random.default_rng(rank).standard_normal((20, x.size))
    odds = np.exp(-rows @ x)
    return rows.T @ (odds / (1 + odds) ** 2 * (rows @ v)) + 0.2 * v


def by_turns(fun: Callable[..., Any], ranks: int) -> Callable[..., Any]:
    """One process that has the data of all, and adds up what is of each."""
    def call(*args: Any) -> Any:
        found = [fun(rank, *args) for rank in range(ranks)]
        if not isinstance(found[0], tuple):
            return sum(found[1:], found[0])
        return tuple(sum(parts[1:], parts[0]) for parts in zip(*found, strict=True))

    return call


RUNS: dict[str, Callable[[Any, Any], Any]] = {
    "lbfgs": lambda loss, hessp: ol.minimize(loss, np.zeros(9), jac=True),
    "l1": lambda loss, hessp: ol.minimize(loss, np.zeros(9), jac=True, options={"l1": 1.0}),
    "cg": lambda loss, hessp: ol.minimize(loss, np.zeros(9, np.float32), jac=True, method="cg"),
    "newton": lambda loss, hessp: ol.minimize(loss, np.zeros(9), jac=True, hessp=hessp, method="newton-cg"),
    "differences": lambda loss, hessp: ol.minimize(lambda x: loss(x)[0], np.zeros(9)),
}


@pytest.mark.parametrize("run", RUNS)
def test_ranks_with_other_data_go_the_way_of_one_process(run: str) -> None:
    def train(comm: Any) -> Any:
        return RUNS[run](mpi.summed(functools.partial(of_data, comm.rank), comm),
                         mpi.summed(functools.partial(product, comm.rank), comm))

    expected = RUNS[run](by_turns(of_data, 3), by_turns(product, 3))
    for found in mpi.simulate(3, train):
        assert found.x.tobytes() == expected.x.tobytes()
        assert (found.fun, found.nit, found.nfev) == (expected.fun, expected.nit, expected.nfev)


def test_a_closure_that_leaves_gradients_in_parameters() -> None:
    def train(comm: Any) -> Any:
        p = ol.Parameter(np.zeros(9))
        opt = ol.LBFGS([p], line_search_fn="strong_wolfe", max_iter=50)

        def closure() -> float:
            loss, p.grad = of_data(comm.rank, p.data)
            return loss

        opt.step(mpi.summed(closure, comm, params=opt))
        return p.data

    x = np.zeros(9)

    def alone() -> Any:
        loss, gradient = by_turns(of_data, 3)(x)
        return loss, [gradient]

    ol.LBFGS([x], line_search_fn="strong_wolfe", max_iter=50).step(alone)
    assert [found.tobytes() for found in mpi.simulate(3, train)] == [x.tobytes()] * 3


def test_what_a_summed_function_returns() -> None:
    def train(comm: Any) -> Any:
        ours = {"a": np.full((2, 2), comm.rank + 1j), "b": (None if comm.rank else np.ones(3, np.float32), None)}
        found = mpi.summed(lambda: [2, comm.rank == 1, ours], comm)()
        assert ours["a"][0, 0] == comm.rank + 1j
        return found, mpi.summed(lambda: (comm.rank, np.full(2, comm.rank)[:1] / 1), comm, "mean")()

    for (number, either, arrays), (mean, array) in mpi.simulate(3, train):
        assert (number, either, mean, array.tolist()) == (6.0, True, 1.0, [1.0])
        assert (arrays["a"] == 3 + 3j).all()
        assert arrays["b"][0].dtype == np.float32
        assert arrays["b"][0].tolist() == [1, 1, 1]
        assert arrays["b"][1] is None


@pytest.mark.parametrize(("returns", "error", "message"), [
    (lambda rank: np.ones(2 + rank), mpi.RankError, r"\(\(2,\), '<f8'\) on rank 0, \(\(3,\), '<f8'\) on rank 1"),
    (lambda rank: [1.0] * (1 + rank), mpi.RankError, "the same nesting"),
    (lambda rank: np.ones(2, int), TypeError, "an array of int64; use"),
    (lambda rank: 1 / rank, (mpi.RankError, ZeroDivisionError), "division by zero"),
    (lambda rank: "loss", TypeError, "must be real numbers, or arrays"),
    (lambda rank: np.array(1 + 2j), TypeError, "give a complex number as an array with one axis"),
    (lambda rank: next(iter([1] * rank)), StopIteration, "^$")])
def test_what_can_not_be_summed(returns: Any, error: Any, message: str) -> None:
    def train(comm: Any) -> None:
        with pytest.raises(error, match=message):
            mpi.summed(lambda: returns(comm.rank), comm)()

    mpi.simulate(2, train)
    with pytest.raises(TypeError, match="`fun` must be a function, got 3"):
        mpi.simulate(1, lambda comm: mpi.summed(3, comm))
    with pytest.raises(ValueError, match="`reduce` must be"):
        mpi.simulate(1, lambda comm: mpi.summed(len, comm, "max"))


def test_an_array_without_axes_is_the_number_in_it() -> None:
    found = mpi.simulate(2, lambda comm: mpi.summed(lambda: (np.array(1.5), np.array(comm.rank == 1)), comm)())
    assert found == [(3.0, True)] * 2


@pytest.mark.parametrize("spread", [True, False])
def test_a_callback_of_one_rank_stops_all_or_ends_all(spread: bool) -> None:
    """`comm=` asks the callbacks of all; without it, `summed` does."""
    def stops(comm: Any, result: Any) -> bool:
        return comm.rank == 1 and result.iterations == 3

    def raises(comm: Any, result: Any) -> None:
        if stops(comm, result):
            raise LookupError("a callback")

    def run(comm: Any, answer: Any) -> Any:
        x = start(comm) if spread else np.zeros(9)
        asked = functools.partial(answer, comm)
        opt = ol.LBFGS([x], line_search_fn="nocedal_wright", comm=comm if spread else None,
                       callback=asked if spread else mpi.summed(asked, comm))
        loss = part_of(comm, x) if spread else mpi.summed(functools.partial(of_data, comm.rank, x), comm)

        def closure() -> Any:
            value, gradient = loss()
            return value, [gradient]

        opt.step(closure)
        return opt.result.iterations

    def ends(comm: Any) -> None:
        with pytest.raises((LookupError, mpi.RankError), match="a callback"):
            run(comm, raises)

    assert mpi.simulate(3, run, stops) == [3, 3, 3]
    mpi.simulate(3, ends)
