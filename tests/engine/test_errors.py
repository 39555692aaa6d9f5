"""Values, groups and steps that are refused: the message names the culprit and the cure, and not a byte has changed."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.cases import AXES, OPTIMIZERS
from support.helpers import gradient, model, parameters, train, values
from support.refusals import assert_refused, stepping

# Hyper-parameters ----------------------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")
NUMBERS = [("0.1", "must be a number, got '0.1'"), (None, "must be a number, got None"), (True, "must be a number"),
           ([0.1], "must be a number"), (1j, "must be a number"), (np.ones(2), "must be a single number, got an array"),
           (np.array("x"), "must be a number"), (NAN, "must be finite, got nan"), (INF, "must be finite, got inf"),
           (np.float32("nan"), "must be finite, got nan"), (10**400, "must be finite")]
NONNEGATIVE = [*NUMBERS, (-0.1, "must be >= 0, got -0.1"), (-1, "must be >= 0, got -1"), (-INF, "must be finite")]
FLAGS = [(1, "must be True or False, got 1"), (None, "must be True or False"), ("yes", "must be True or False")]
BETAS = [(0.9, "must be a pair of numbers, got 0.9"), ((0.9,), "must be a pair of numbers"),
         ((0.9, 0.99, 0.999), "must be a pair of numbers"), ("ab", "must be a pair"), ({0: 0, 1: 0}, "must be a pair"),
         ((-0.1, 0.9), "`betas[0]` must be >= 0 and < 1, got -0.1"), ((0.9, 1), "`betas[1]` must be >= 0 and < 1"),
         ((0.9, NAN), "`betas[1]` must be finite, got nan"), ((None, 0.9), "`betas[0]` must be a number, got None")]
OPTIONAL = [(value, message) for value, message in NONNEGATIVE if value is not None]
TRIPLES = [(0.9, "must be three numbers, got 0.9"), ((0.9, 0.99), "must be three numbers"),
           ((0.9, 0.9, 0.9, 0.9), "must be three numbers"), ("abc", "must be three numbers, got 'abc'"),
           ((0.9, -0.1, 0.9), "`betas[1]` must be >= 0 and < 1, got -0.1"), ((0.9, 0.9, 1), "`betas[2]` must be >= 0"),
           ((0.9, NAN, 0.9), "`betas[1]` must be finite, got nan")]
WARMUPS = [("5", "must be a number, got '5'"), (0, "must be an integer >= 1, got 0"), (-3, "must be an integer >= 1"),
           (2.5, "must be an integer >= 1, got 2.5"), (NAN, "must be finite, got nan")]
UNIT = [*NUMBERS, (-0.1, "must be >= 0 and <= 1, got -0.1"), (1.1, "must be >= 0 and <= 1, got 1.1")]
UNIT_OPEN = [*NUMBERS, (-0.1, "must be >= 0 and < 1, got -0.1"), (1, "must be >= 0 and < 1, got 1")]
COUNTS = [(0, "must be an integer >= 1, got 0"), (2.5, "must be an integer >= 1, got 2.5"), (None, "must be a number")]
ABOVE_0 = [(-1, "must be > 0, got -1"), (0, "must be > 0, got 0"), (NAN, "must be finite"), ("1", "must be a number")]
ETAS = [(0.5, "must be a pair of numbers, got 0.5"), ((0.5,), "must be a pair of numbers"),
        ((0, 1.2), "`etas[0]` must be > 0 and < 1, got 0"), ((1, 1.2), "`etas[0]` must be > 0 and < 1, got 1"),
        ((0.5, 1), "`etas[1]` must be > 1, got 1"), ((1.2, 0.5), "`etas[0]` must be > 0 and < 1, got 1.2"),
        ((NAN, 1.2), "`etas[0]` must be finite, got nan"), ((0.5, INF), "`etas[1]` must be finite, got inf")]
SIZES = [(50, "must be a pair of numbers, got 50"), ((1e-6,), "must be a pair of numbers"),
         ((-1e-6, 50), "`step_sizes[0]` must be >= 0, got -1e-06"),
         ((NAN, 50), "`step_sizes[0]` must be finite, got nan"), ((1, 0.5), "must be (least, largest), got (1, 0.5)")]
LARGEST_RATES = [(0, "must be > 0, got 0"), (-0.1, "must be > 0, got -0.1"), (NAN, "must be finite, got nan"),
                 *((value, f"must be True, False or the largest learning rate, got {value!r}")
                   for value in (None, "yes", [0.1]))]
BY_NAME = {"betas": BETAS, "rho": UNIT, "etas": ETAS, "step_sizes": SIZES, "corrected_weight_decay": LARGEST_RATES,
           "max_update_rms": ABOVE_0, **dict.fromkeys(
    ("lr", "momentum", "weight_decay", "eps", "trust_coefficient", "momentum_decay", "lr_decay",
     "initial_accumulator_value", "lambd"),
    NONNEGATIVE)}


def refused(name: str, default: Any) -> list[tuple[Any, str]]:
    """Bad values of a hyper-parameter; flags and finite numbers need no row in the table."""
    return BY_NAME.get(name, FLAGS if isinstance(default, bool) else NUMBERS)


VALUES = {optimizer: {name: refused(name, parameter.default)
                      for name, parameter in inspect.signature(optimizer).parameters.items()
                      if name not in ("params", "storage")}
          for optimizer in OPTIMIZERS}
VALUES[ol.SGD]["nesterov"] = [*FLAGS, (True, "`nesterov` needs `momentum` > 0 and `dampening` = 0, got momentum=0")]
VALUES[ol.RMSprop]["alpha"] = UNIT
VALUES[ol.ADOPT]["clip_exp"] = VALUES[ol.Adam]["eps_root"] = VALUES[ol.AdamW]["eps_root"] = OPTIONAL
VALUES[ol.Adan]["betas"] = TRIPLES
VALUES[ol.AdEMAMix] |= {"betas": TRIPLES, "alpha": NONNEGATIVE, "beta3_warmup": WARMUPS, "alpha_warmup": WARMUPS}
VALUES[ol.MARS] |= {"gamma": NONNEGATIVE,
                    "betas_1d": [(value, message.replace("betas", "betas_1d")) for value, message in BETAS]}
VALUES[ol.ASGD]["alpha"] = NONNEGATIVE
VALUES[ol.AdamP] |= {"delta": NONNEGATIVE, "wd_ratio": NONNEGATIVE}
VALUES[ol.AdamMini] |= {
    "heads": WARMUPS, "block": [("rows", "must be 'row', 'head', 'tensor' or 'none', got 'rows'"),
                                (None, "must be 'row', 'head', 'tensor' or 'none', got None"),
                                ("head", "`heads` must be the number of heads where `block` is 'head', got None")]}
VALUES[ol.LAMB]["max_trust_ratio"] = ABOVE_0
VALUES[ol.ScheduleFreeSGD]["momentum"] = [*NUMBERS, (0, "must be > 0 and < 1, got 0"), (1, "must be > 0 and < 1")]
VALUES[ol.DoG]["init_eta"] = VALUES[ol.LDoG]["init_eta"] = ABOVE_0
VALUES[ol.Prodigy]["beta3"] = [(-0.1, "must be >= 0 and < 1, got -0.1"), (1, "must be >= 0 and < 1"),
                               ("1", "must be a number")]
VALUES[ol.Prodigy]["growth_rate"] = VALUES[ol.DAdaptAdam]["growth_rate"] = [
    (0.9, "must be >= 1, got 0.9"), (NAN, "must be finite"), (None, "must be a number"),
    (np.ones(2), "must be a single number")]
VALUES[ol.Adafactor] = {
    "lr": NONNEGATIVE, "weight_decay": NONNEGATIVE, "maximize": FLAGS,
    "beta2_decay": [*NUMBERS, (0.1, "must be <= 0, got 0.1")],
    "d": [(0.9, "must be >= 1, got 0.9"), (-1, "must be >= 1"), *NUMBERS],
    "eps": [(1e-3, "must be a pair of a number or None and a number, got 0.001"), ((None,), "must be a pair"),
            ((-1, 1e-3), "`eps[0]` must be >= 0, got -1"), ((None, NAN), "`eps[1]` must be finite, got nan"),
            ((None, None), "`eps[1]` must be a number, got None")]}
VALUES[ol.Muon] = {
    **{name: NONNEGATIVE for name in ("lr", "weight_decay", "momentum", "eps")}, "nesterov": FLAGS,
    "ns_steps": [*NUMBERS, (100, "must be >= 0 and < 100, got 100"), (-1, "must be >= 0 and < 100, got -1"),
                 (2.0, "must be an integer, got 2.0")],
    "use_muon": FLAGS, "maximize": FLAGS, "betas": BETAS,
    "ns_coefficients": [((1, 2), "must be three numbers, got (1, 2)"),
                        ("polar", "must be three numbers, a list of such, or 'polar_express', got 'polar'"),
                        ([(1, 2, 3), (1, 2)], "`ns_coefficients[1]` must be three numbers, got (1, 2)"),
                        ([(1, 2, 3)], "`ns_steps` must be <= 1, the number of `ns_coefficients`, got 5"),
                        ((1, 2, "3"), "`ns_coefficients[2]` must be a number, got '3'"),
                        ((1, INF, 3), "`ns_coefficients[1]` must be finite, got inf")],
    "adjust_lr_fn": [("match", "must be None, 'original', 'match_rms_adamw' or 'spectral_norm', got 'match'"),
                     (1, "must be None, 'original', 'match_rms_adamw' or 'spectral_norm', got 1")]}
VALUES[ol.NorMuon] = {**VALUES[ol.Muon], "beta2": UNIT_OPEN}
VALUES[ol.SOAP] |= {"shampoo_beta": [(-0.1, "must be >= 0 and < 1, got -0.1"), (1, "must be >= 0 and < 1")],
                    **dict.fromkeys(("precondition_frequency", "max_precond_dim"), COUNTS)}
VALUES[ol.Shampoo] |= {
    "betas": [((1, 0.9), "`betas[0]` must be >= 0 and < 1, got 1"), ((0.9, 1.1), "`betas[1]` must be >= 0 and <= 1"),
              (0.9, "must be a pair of numbers, got 0.9")],
    "eps": [(0, "must be > 0, got 0"), *NUMBERS], "grafting_beta2": UNIT_OPEN, "grafting_eps": NONNEGATIVE,
    **dict.fromkeys(("precondition_frequency", "max_preconditioner_dim"), COUNTS),
    "start_preconditioning_step": [(0, "must be an integer >= 1, got 0"), ("1", "must be a number")],
    "grafting": [("lion", "must be None, 'sgd', 'adagrad', 'rmsprop' or 'adam', got 'lion'"), (True, "must be None")],
    "nesterov": [*FLAGS, (True, "`nesterov` needs `momentum` > 0, got momentum=0")]}


def loaded(optimizer: ol.Optimizer, key: str, value: Any) -> None:
    saved = optimizer.state_dict()
    saved["param_groups"][0][key] = value
    optimizer.load_state_dict(saved)


def assigned(optimizer: ol.Optimizer, key: str, value: Any) -> None:
    group = optimizer.param_groups[0]
    kept = group[key]
    group[key] = value
    try:
        optimizer.step()
    finally:
        group[key] = kept


WAYS: dict[str, Callable[[ol.Optimizer, str, Any], Any]] = {
    "constructor": lambda o, key, value: type(o)(model(axes=2), **{key: value}),
    "group": lambda o, key, value: type(o)([{"params": model(axes=2), key: value}]),
    "late group": lambda o, key, value: o.add_param_group({"params": [np.ones((2, 1))], key: value}),
    "assigned": assigned,
    "loaded": loaded,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("optimizer", "key"), [(optimizer, key) for optimizer in VALUES for key in VALUES[optimizer]])
def test_a_hyper_parameter_out_of_range_is_refused(optimizer: Any, key: str, way: str) -> None:
    built = stepping(optimizer)
    for value, message in VALUES[optimizer][key]:
        named = message if "`" in message else f"`{key}` {message}"
        assert_refused(lambda value=value: WAYS[way](built, key, value), re.escape(named), optimizer=built)
    built.step()


def test_integers_beyond_float64s_precision_are_read_as_floats() -> None:
    """Their products would pass float64 altogether, and a step end in an OverflowError."""
    p = np.ones(2, np.float32)
    optimizer = ol.AdamW([p], lr=10**300, weight_decay=10**300)
    optimizer.step(grads=[np.ones(2, np.float32)])
    assert [type(optimizer.param_groups[0][key]) for key in ("lr", "weight_decay")] == [float, float]
    assert not np.isfinite(p).any()


class Unspeakable:
    def __repr__(self) -> str:
        raise SystemError("a repr that fails")


class Endless:
    def __getitem__(self, index: int) -> float:
        return 0.5


@pytest.mark.parametrize("value", [Endless(), itertools.count(), np.zeros((), "f4,f4")[()], np.array(0.5)],
                         ids=["getitem", "count", "record", "0-d"])
def test_what_only_looks_like_a_pair_is_refused_at_once(value: Any) -> None:
    for make in (lambda: ol.Adam([np.ones(3)], betas=value), lambda: ol.Adafactor([np.ones(3)], eps=value)):
        with pytest.raises(TypeError, match=r"must be a pair of .*, got "):
            make()


@pytest.mark.parametrize("act", [
    lambda odd: ol.set_num_threads(odd), lambda odd: ol.minimize(lambda x: (0.0, x), np.ones(2), method=odd),
    lambda odd: ol.Checkpoints("run", mode=odd), lambda odd: ol.lr_scheduler.ReduceLROnPlateau(stepping(), mode=odd),
    lambda odd: stepping().add_param_group({"params": [np.ones(2)], "param_names": odd})],
    ids=["threads", "method", "mode", "plateau", "names"])
@pytest.mark.parametrize("odd", [np.array([1, 2]), ["lbfgs", 3], 2.5, Unspeakable()],
                         ids=["array", "list", "float", "repr"])
def test_odd_arguments_are_refused_by_name(odd: Any, act: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"`.*must be"):
        act(odd)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("value", "got"), [
    (Unspeakable(), "got an object of type Unspeakable"), (["ab" * 300], r"got \['(ab)+\.\.\.$"),
    (np.array([b"x"], "S1"), "got array"), (np.array(None), "got array"), (np.zeros((), "i4,f4"), "got array"),
    (np.ones(4), r"got (array|an array of shape \(4,\))")], ids=["repr", "long", "bytes", "object", "record", "four"])
@pytest.mark.parametrize(("optimizer", "key"), [
    (ol.Adam, "lr"), (ol.Adam, "betas"), (ol.SGD, "nesterov"), (ol.Muon, "ns_steps"), (ol.Muon, "ns_coefficients"),
    (ol.Muon, "adjust_lr_fn"), (ol.Adafactor, "eps"), (ol.ConjugateGradient, "beta"), (ol.LBFGS, "line_search_fn")])
def test_values_of_any_kind_are_refused_in_a_line_or_two(optimizer: Any, key: str, value: Any, got: str,
                                                         way: str) -> None:
    """Found by fuzzing: the repr of a record array failed, and with it the refusal."""
    if optimizer in (ol.ConjugateGradient, ol.LBFGS) and way != "constructor":
        pytest.skip("their groups are checked together")
    built = optimizer({"W": np.ones((4, 3), np.float32)})
    with pytest.raises((TypeError, ValueError), match=got) as caught:
        WAYS[way](built, key, value) if way != "constructor" else optimizer([np.ones((4, 3))], **{key: value})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("options", [{"momentum": 0}, {"momentum": 0.9, "dampening": 0.1}], ids=str)
@pytest.mark.parametrize("way", [lambda o: ol.SGD(model(), nesterov=True, **o),
                                 lambda o: ol.SGD([{"params": model(), "nesterov": True}], **o),
                                 lambda o: ol.SGD([{"params": model(), **o}], momentum=0.9, nesterov=True)])
def test_values_that_exclude_each_other_are_refused(way: Any, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"`nesterov` needs `momentum` > 0 and `dampening` = 0, got momentum=.* and"):
        way(options)


# Groups --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("group", "message"), [
    (None, "must be a dict with a 'params' key, got NoneType"), ([np.ones(2)], "with a 'params' key, got list"),
    ({"lr": 0.1}, "with a 'params' key"), ({"params": None}, "must be NumPy arrays, .*got NoneType"),
    ({"params": [np.ones(2), 3]}, "got int at '1'"),
    ({"params": {np.float32(1)}}, "fixed order, got a set; use a list"),
    ({"params": [np.ones(2)], "param_names": ["a", "b"]}, "`param_names` must have 1 items, got 2"),
    ({"params": [np.ones(2)], "param_names": "a"}, "`param_names`"),
    ({"params": [np.ones(2)], "param_names": [3]}, "`param_names`"),
    ({"params": [np.ones(2)], "learning_rate": 1}, "did you mean `lr`"),
    ({"params": [np.ones(2)], "lr": -1}, "`lr` must be >= 0, got -1")], ids=str)
def test_a_group_that_is_none_is_refused(group: Any, message: str) -> None:
    optimizer = stepping()
    assert_refused(lambda: optimizer.add_param_group(group), message, optimizer=optimizer)
    assert_refused(lambda: ol.Adam([{"params": [np.ones(3)]}, group]), message)
    assert len(optimizer.param_groups) == 1
    optimizer.step()


# Half-done steps -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_bad_second_group_leaves_the_first(optimizer: Any, steps: int) -> None:
    arrays = model(axes=AXES[optimizer])
    built = optimizer([{"params": {"W": arrays.pop("W")}}, {"params": arrays}])
    train(built, range(1, steps + 1))
    for index, p in enumerate(parameters(built)):
        p.grad = gradient(99, index, p)
    built.param_groups[1]["lr"] = -1
    assert_refused(built.step, "`lr` must be >= 0, got -1", optimizer=built)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_rule_that_fails_in_one_group_leaves_them_both(steps: int, number: int) -> None:
    """All coefficients come before the first kernel, and what was made for the step, and only that, goes again."""
    class Failing(ol.SGD):
        def coefficients(self, group: Any, state: Any, first: bool) -> dict[str, float]:
            if group.get("fails"):
                raise ValueError("as it should")
            return super().coefficients(group, state, first)

    built = Failing([{"params": {"W": np.ones(2)}}, {"params": {"b": np.ones(2)}}], lr=1, momentum=0.5, dampening=0.5)
    for p in parameters(built):
        p.grad = np.ones(2)
    for _ in range(steps):
        built.step()
    built.param_groups[number]["fails"] = True
    assert_refused(built.step, "as it should", optimizer=built)
    del built.param_groups[number]["fails"]
    for _ in range(2):
        built.step()
        for name in ("W", "b"):                              # 0.5 * 1 + (1 - 0.5) * 1, and the first buffer is g
            assert built.state[name]["momentum_buffer"].tolist() == [1, 1]
        built.state["W"]["mine"] = 1                         # plans made anew know what has stepped


def test_a_parameter_that_was_locked_after_a_step_is_refused() -> None:
    array = np.ones(3)

    def fresh() -> dict[str, np.ndarray]:        # whoever writes into the same gradients isn't told
        return {"W": np.ones(3), "b": np.ones(2)}

    optimizer = ol.SGD({"W": array, "b": np.ones(2)}, momentum=0.9)
    optimizer.step(grads=fresh())
    array.flags.writeable = False
    for _ in range(2):
        before = values(optimizer)
        with pytest.raises(ValueError, match="parameter 'W' must be writeable"):
            optimizer.step(grads=fresh())
        assert values(optimizer) == before
    array.flags.writeable = True
    optimizer.step(grads=fresh())
