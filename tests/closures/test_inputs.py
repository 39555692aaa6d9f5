"""What a closure returns, who may step, and state: what isn't a loss or a gradient is refused, with the cure."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import same_bits
from support.closures import SEARCHES, Rosenbrock

METHODS = [ol.LBFGS, ol.ConjugateGradient]


# The closure's loss and gradients ------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", METHODS)
@pytest.mark.parametrize(("returned", "error", "message"), [
    (None, TypeError, r"^the closure must return the loss or \(loss, grads\), got None; is a `return` missing\?$"),
    ([1.0, [np.ones(3)]], TypeError, r"a tuple \(loss, grads\), got a list, \[1.0, "),
    ((np.ones(2), [np.ones(3)]), ValueError, r"a single number, got an array of shape \(2,\); sum it$"),
    (([], [np.ones(3)]), TypeError, "got a list"),
    ((1j, [np.ones(3)]), TypeError, "a real number, got 1j; return its real part$"),
    ((np.complex64(1), [np.ones(3)]), TypeError, "a real number, got .*; return its real part$"),
    (("1.0", [np.ones(3)]), TypeError, "a real number, got '1.0'$"),
    ((np.array(["1.0"], object), [np.ones(3)]), TypeError, "a real number, got "),
    ((True, [np.ones(3)]), TypeError, "a real number, got True$"),
    ((object(), [np.ones(3)]), TypeError, "a real number, got <object"),
    ((1.0, [np.ones(3), 2]), ValueError, "grad"),
])
def test_what_is_no_loss_is_refused(make: Any, returned: Any, error: type[Exception], message: str) -> None:
    x = np.full(3, 0.5)
    opt = make([x])
    with pytest.raises(error, match=message):
        opt.step(lambda: returned)
    assert (x == 0.5).all()
    assert opt.step(lambda: (float(x @ x), [2 * x])) == 0.75         # and it goes on from there


@pytest.mark.parametrize("loss", [2, np.float32(2), np.int64(2), np.array(2.0), np.array([2.0], np.float32)])
def test_any_real_number_is_a_loss(loss: Any) -> None:
    assert ol.LBFGS([np.ones(3)]).step(lambda: (loss, [np.zeros(3)])) is loss


@pytest.mark.parametrize("make", METHODS)
def test_without_any_gradient_nothing_has_converged(make: Any) -> None:
    opt = make([np.ones(3)])
    with pytest.warns(UserWarning, match="left no gradient") as caught:
        opt.step(lambda: 0.0)
    assert caught[0].filename == __file__
    assert not opt.result.converged
    assert "left no gradient" in opt.result.reason


@pytest.mark.parametrize("make", METHODS)
def test_sparse_gradients_are_refused(make: Any) -> None:
    table = np.ones((3, 2))
    gradient = ol.SparseGrad(np.array([1]), np.ones((1, 2)))
    with pytest.raises(TypeError, match=r"no sparse gradients.*gradient\.to_dense\(len\(parameter\)\)"):
        make([table]).step(lambda: (1.0, [gradient]))
    assert (table == 1).all()


@pytest.mark.parametrize("make", METHODS)
@pytest.mark.parametrize("option", ["max_grad_norm", "max_grad_value", "grad_scale", "skip_nonfinite", "max_norm"])
def test_options_of_other_steps_are_refused(make: Any, option: str) -> None:
    with pytest.raises(TypeError, match=f"{make.__name__}.step takes no `{option}`: a line search needs the gradients"):
        make([np.ones(3)]).step(lambda: 0.0, **{option: 1.0})


# Who steps -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("place", ["closure", "callback"])
def test_a_step_within_a_step_is_told_from_one_in_another_thread(place: str) -> None:
    problem = Rosenbrock()
    messages: list[str] = []

    def again(*_: Any) -> None:
        try:
            opt.step(problem)
        except RuntimeError as error:
            messages.append(str(error))

    def closure() -> Any:
        if place == "closure":
            again()
        return problem()

    opt = ol.LBFGS(problem.params, line_search_fn="hager_zhang", max_iter=1, callback=again)
    opt.step(closure)
    assert set(messages) == {"LBFGS.step was called from within its own closure or callback; "
                             "the closure only computes the loss and its gradients"}
    messages.clear()

    def from_another_thread() -> Any:
        thread = threading.Thread(target=again)
        thread.start()
        thread.join()
        return problem()

    opt.callback = None
    opt.step(from_another_thread)
    assert "already stepping in another thread" in messages[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_that_was_forked_in_a_step_can_step() -> None:
    problem, ends = Rosenbrock(), []

    def closure() -> Any:
        if not ends:
            child = os.fork()
            if not child:
                try:
                    opt.step(problem)
                    os._exit(0)
                finally:
                    os._exit(1)
            ends.append(os.waitpid(child, 0)[1])
        return problem()

    opt = ol.LBFGS(problem.params)
    opt.step(closure)
    assert ends == [0]


@pytest.mark.parametrize(("make", "search"), [
    *((ol.LBFGS, search) for search in (None, *SEARCHES)),
    (ol.ConjugateGradient, "strong_wolfe")])
def test_nothing_of_a_run_waits_for_the_cyclic_collector(make: Any, search: str | None) -> None:
    """Megabytes are freed with the last name: the collector doesn't see how many they are."""
    gc.collect()
    gc.disable()
    try:
        problem = Rosenbrock()
        opt = make(problem.params, line_search_fn=search, lr=1 if search else 1e-3, max_iter=30)
        opt.step(problem)
        alive = [weakref.ref(part) for part in (opt, opt._method, opt._method.work, opt._method.space)]
        del opt
        assert [part() for part in alive] == [None] * 4
    finally:
        gc.enable()


# State ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", METHODS)
def test_a_state_saved_after_a_group_was_added_can_be_loaded(make: Any) -> None:
    """The method starts anew then, as it would have without saving."""
    def run(save: bool) -> np.ndarray:
        x, y = np.full(3, 2.0), np.full(2, 3.0)
        opt = make([x], max_iter=2)
        opt.step(lambda: (float(x**2 @ x**2), [4 * x**3]))
        opt.add_param_group({"params": [y]})
        if save:
            saved = opt.state_dict()
            opt = make([{"params": [x]}, {"params": [y]}])
            opt.load_state_dict(saved)
        opt.step(lambda: (float(x**2 @ x**2 + y @ y), [[4 * x**3], [2 * y]]))
        return np.concatenate([x, y])

    assert same_bits(run(False), run(True))


@pytest.mark.parametrize("make", METHODS)
def test_parameters_taken_out_of_a_group_stay_where_they_are(make: Any) -> None:
    x, y = np.full(3, 2.0), np.full(2, 3.0)
    opt = make([x, y], max_iter=10)
    opt.step(lambda: (float(x**2 @ x**2 + y @ y), [4 * x**3, 2 * y]))
    left, group = y.copy(), opt.param_groups[0]
    group["params"] = group["params"][:1]
    opt.step(lambda: (float(x**2 @ x**2), {"0": 4 * x**3}))
    assert same_bits(y, left)
    assert opt.result.loss < 1e-3
    group["params"] = (*group["params"], ol.Parameter(np.ones(2)))
    with pytest.raises(ValueError, match="which the optimizer doesn't know; add it"):
        opt.step(lambda: 0.0)
