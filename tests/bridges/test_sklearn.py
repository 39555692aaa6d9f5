"""optimlite.sklearn: scikit-learn's MLPs with our optimizers, equal to its own where these are the same."""

from __future__ import annotations

import importlib
import io
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import optimlite as ol

sklearn = pytest.importorskip("sklearn")
theirs: Any = importlib.import_module("sklearn.neural_network")
ours: Any = importlib.import_module("optimlite.sklearn")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 4))
Y = (X[:, 0] * X[:, 1] > 0).astype(int)
pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")


def fitted(kind: Any, target: Any = Y, **options: Any) -> Any:
    return kind((8,), **{"max_iter": 15, "random_state": 0, "learning_rate_init": 0.01, **options}).fit(X, target)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_adam_is_scikit_learns(name: str, dtype: Any) -> None:
    target = Y if name == "MLPClassifier" else X[:, 0].astype(dtype)
    a = getattr(theirs, name)(hidden_layer_sizes=(8,), max_iter=15, random_state=0).fit(X.astype(dtype), target)
    b = getattr(ours, name)((8,), max_iter=15, random_state=0, optimizer_options={"uncorrected_eps": True}
                            ).fit(X.astype(dtype), target)
    for mine, other in zip(b.coefs_ + b.intercepts_, a.coefs_ + a.intercepts_, strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_allclose(mine, other, rtol=1e-4 if dtype == np.float32 else 1e-9, atol=1e-5)
    assert b.loss_ == pytest.approx(a.loss_, rel=1e-5)


@pytest.mark.parametrize("optimizer", [ol.AdamW, ol.Lion, ol.RMSprop, ol.LAMB, ol.Prodigy])
def test_other_optimizers_learn(optimizer: Any) -> None:
    options = {"lr": 1.0} if optimizer is ol.Prodigy else {}
    model = fitted(ours.MLPClassifier, optimizer=optimizer, optimizer_options=options, max_iter=200)
    assert model.score(X, Y) > 0.8
    assert type(model.optimizer_) is optimizer
    assert model.optimizer_.steps_taken == model.n_iter_


def test_estimators_are_scikit_learns_to_its_tools() -> None:
    base, selection, pipeline = (importlib.import_module(f"sklearn.{name}")
                                 for name in ("base", "model_selection", "pipeline"))
    model = fitted(ours.MLPClassifier, optimizer=ol.AdamW, optimizer_options={"weight_decay": 0.1})
    twin = base.clone(model)
    assert twin.get_params() == model.get_params()
    assert {"optimizer", "schedule", "alpha", "hidden_layer_sizes"} < set(twin.get_params())
    twin.set_params(optimizer=ol.Lion, max_iter=2)
    assert type(twin.fit(X, Y).optimizer_) is ol.Lion
    search = selection.GridSearchCV(pipeline.make_pipeline(ours.MLPClassifier((4,), max_iter=3)),
                                    {"mlpclassifier__optimizer": [ol.AdamW, ol.Lion]}, cv=2).fit(X, Y)
    assert search.best_params_["mlpclassifier__optimizer"] in (ol.AdamW, ol.Lion)


def through_joblib(model: Any) -> Any:
    joblib, file = pytest.importorskip("joblib"), io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("copied", [lambda model: pickle.loads(pickle.dumps(model)), through_joblib],
                         ids=["pickle", "joblib"])
def test_a_copy_goes_on_with_the_same_bits(copied: Any) -> None:
    model = fitted(ours.MLPClassifier, optimizer=ol.AdamW, schedule=ol.schedules.cosine(0.01, T_max=50))
    twin = copied(model)
    for each in (model, twin):
        for _ in range(3):
            each.partial_fit(X, Y)
    assert all(map(np.array_equal, model.coefs_, twin.coefs_))
    assert model.optimizer_.param_groups[0]["lr"] == twin.optimizer_.param_groups[0]["lr"] == pytest.approx(
        ol.schedules.cosine(0.01, T_max=50)(18))


def test_weights_that_somebody_replaced_are_trained_on() -> None:
    model = fitted(ours.MLPClassifier)
    model.coefs_[0] = np.zeros_like(model.coefs_[0])
    model.partial_fit(X, Y)
    assert model.coefs_[0].any()
    assert model.optimizer_.param_groups[0]["params"][0].data is model.coefs_[0]


def test_early_stopping_restores_the_best() -> None:
    model = fitted(ours.MLPClassifier, early_stopping=True, max_iter=30)
    assert model.best_validation_score_ == max(model.validation_scores_)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"optimizer": "lion"}, "`optimizer` must be a class of optimlite's, got 'lion'; give ol.AdamW itself"),
    ({"optimizer": ol.Lion([np.zeros(1)])}, "give ol.Lion itself, and its arguments beside"),
    ({"optimizer": dict}, "`optimizer` must be a class of optimlite's, got <class 'dict'>"),
    ({"optimizer": ol.LBFGS}, "`optimizer` must step by a gradient, got LBFGS.*; use ol.minimize"),
    ({"optimizer_options": [1]}, r"`optimizer_options` must be a dict, got \[1\]"),
    ({"schedule": 0.1}, r"`schedule` must be a function of the epoch, such as ol.schedules.cosine\(.*, got 0.1"),
    ({"schedule": ol.lr_scheduler.StepLR}, "`schedule` must be a function of the epoch"),
]


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match="AdamW has no argument `decay`; did you mean `weight_decay`"):
        fitted(ours.MLPClassifier, optimizer=ol.AdamW, optimizer_options={"decay": 1})
    with pytest.raises(TypeError, match="unexpected keyword argument 'hidden'"):
        ours.MLPClassifier(hidden=3)
    for options, message in WRONG:
        with pytest.raises(TypeError, match=message):
            fitted(ours.MLPClassifier, **options)
    with pytest.raises(AttributeError, match="MLPClassifier has taken no step yet; call fit before"):
        ours.MLPClassifier().optimizer_  # noqa: B018
    with warnings.catch_warnings(), pytest.raises(ValueError, match="`lr` must be >= 0"):
        fitted(ours.MLPClassifier, optimizer_options={"lr": -1})
