"""The examples: their gradients agree with finite differences, and each does what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import differences
from support.paths import EXAMPLES


@pytest.fixture
def gan(example: Any) -> Any:
    pytest.importorskip("matplotlib")
    return example("gan")


# Gradients -----------------------------------------------------------------------------------------------------------

def check_gradients(backward: Callable[[], float], parameters: list[ol.Parameter]) -> None:
    """Compares what `backward` sets, for every element, with central differences of the loss that it returns."""
    backward()
    gradients = [p.grad.copy() for p in parameters]
    for p, gradient in zip(parameters, gradients, strict=True):
        measured = differences(backward, p.data)
        assert np.any(measured), p.name
        np.testing.assert_allclose(gradient, measured, rtol=1e-5, atol=1e-8, err_msg=str(p.name))


@pytest.mark.parametrize("leak", [0.0, 0.2])
@pytest.mark.parametrize("sizes", [[5, 3], [5, 7, 3], [5, 7, 6, 3]])
def test_mlp_gradients(example: Any, sizes: list[int], leak: float) -> None:
    mlp = example("mlp")
    model = mlp.MLP(sizes, seed=1, leak=leak, dtype=np.float64)
    rng = np.random.default_rng(2)
    x, labels = rng.standard_normal((8, 5)), rng.integers(3, size=8)
    of_inputs = []

    def backward() -> float:
        loss, grad = mlp.softmax_cross_entropy(model.forward(x), labels)
        of_inputs.append(model.backward(grad))
        return float(loss)

    check_gradients(backward, model.parameters())
    np.testing.assert_allclose(of_inputs[0], differences(backward, x), rtol=1e-5, atol=1e-8)


def test_softmax_does_not_overflow(example: Any) -> None:
    loss, grad = example("mlp").softmax_cross_entropy(np.float32([[1e4, 0], [0, -1e4]]), np.array([0, 1]))
    assert loss == 5000
    np.testing.assert_array_equal(grad, [[0, 0], [0.5, -0.5]])
    assert grad.dtype == np.float32


def test_gan_gradients(gan: Any) -> None:
    rng = np.random.default_rng(3)
    G = gan.MLP([gan.LATENT, 7, 6, 2], seed=4, dtype=np.float64)
    D = gan.MLP([2 * gan.PACK, 6, 7, 1], seed=5, leak=0.2, dtype=np.float64)
    data, fakes = rng.standard_normal((2, 8, 2))
    latent = rng.standard_normal((8, gan.LATENT))
    check_gradients(lambda: gan.discriminator_backward(D, data, fakes), D.parameters())
    check_gradients(lambda: gan.generator_backward(G, D, latent), G.parameters())


def test_models_are_float32_and_fixed_by_their_seed(example: Any) -> None:
    mlp = example("mlp")
    first, again, other = (mlp.MLP([4, 3, 2], seed).weights[0].data for seed in (6, 6, 7))
    assert first.dtype == np.float32
    assert first.tobytes() == again.tobytes() != other.tobytes()


# What the examples promise -------------------------------------------------------------------------------------------

def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, str(EXAMPLES / script), *arguments], capture_output=True, text=True,
                          encoding="utf-8", timeout=300, check=False,
                          env={**os.environ, "PYTHONUTF8": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_digits(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    done = run("digits.py", "--quick", "--out", str(tmp_path))
    accuracy = re.search(r"test accuracy ([\d.]+)%", done.stdout)
    assert float(accuracy[1] if accuracy else 0) >= 97, done.stdout
    assert "the same bits as the uninterrupted run" in done.stdout
    assert "ending on the same bits" in done.stdout
    times = [[float(number) for number in re.findall(r"[\d.]+", line)]
             for line in re.findall(r"^  (?:optimlite|pure NumPy|ratio) .*", done.stdout, re.M)]
    (ours, ours_all), (numpy, numpy_all), (ratio, ratio_all) = times
    assert ratio == pytest.approx(numpy / ours, rel=0.02, abs=0.06)   # the figures are rounded
    assert ratio_all == pytest.approx(numpy_all / ours_all, rel=0.02, abs=0.06)

    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
    checkpoint = ol.load(tmp_path / "digits.safetensors")
    assert checkpoint["epoch"] == 6
    assert len(checkpoint["optimizer"]["state"]) == len(checkpoint["parameters"]) == 6
    of_weights, of_biases = (group["lr"] for group in checkpoint["optimizer"]["param_groups"])
    assert of_biases == pytest.approx(2 * of_weights)


@pytest.fixture
def small_digits(example: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """digits.py with too few images to learn from, neither drawing nor timing."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    digits = example("digits")
    train_images, train_labels, *test = digits.load_images()
    monkeypatch.setattr(digits, "load_images", lambda: (train_images[:64], train_labels[:64], *test))
    monkeypatch.setattr(digits, "draw", lambda *_: None)
    monkeypatch.setattr(digits, "compare_step_times", lambda *_: True)
    monkeypatch.setattr(sys, "argv", ["digits.py", "--quick", "--out", str(tmp_path)])
    return digits


def test_digits_fails_if_it_learned_too_little(small_digits: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert small_digits.main() == 1
    printed = capsys.readouterr().out
    assert "LESS THAN 97%" in printed
    assert "OTHER" not in printed


def test_digits_fails_if_one_bit_differs(
    small_digits: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(small_digits, "WANTED_ACCURACY", 0)
    restore = small_digits.Training.restore

    def restore_almost(training: Any, path: Path) -> None:
        restore(training, path)
        momentum = training.optimizer.state["0.weight"]["momentum_buffer"]
        momentum.ravel().view(np.uint32)[momentum.argmax()] ^= 1

    assert small_digits.main() == 0
    monkeypatch.setattr(small_digits.Training, "restore", restore_almost)
    assert small_digits.main() == 1
    assert "OTHER bits as the uninterrupted run" in capsys.readouterr().out


def test_digits_without_tqdm(
    small_digits: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)       # importing it raises ImportError
    assert list(small_digits.with_progress(range(3))) == [0, 1, 2]
    assert "tqdm is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(("script", "absent"), [
    ("digits", "matplotlib"), ("digits", "sklearn"), ("gan", "matplotlib"),
    ("autograd_mlp", "autograd"), ("autograd_mlp", "sklearn"),
])
def test_what_is_missing_is_named(example: Any, script: str, absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == absent]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, absent, None)
    for other in {"matplotlib", "sklearn", "autograd"} - {absent}:
        pytest.importorskip(other)
    with pytest.raises(SystemExit, match=f"needs {absent}.*: pip install"):
        example(script)


@pytest.mark.slow
def test_gan_covers_every_mode(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = run("gan.py", "--quick", "--out", str(tmp_path))
    assert "8 of 8 modes covered" in done.stdout
    assert (tmp_path / "gan.png").read_bytes().startswith(b"\x89PNG")


def test_gan_is_fixed_by_its_seed(gan: Any) -> None:
    (G, losses), (G_again, losses_again), (_, other) = (gan.train(steps=10, seed=seed) for seed in (0, 0, 1))
    assert losses == losses_again != other
    for p, again in zip(G.parameters(), G_again.parameters(), strict=True):
        assert p.data.tobytes() == again.data.tobytes()


def test_gan_counts_modes(gan: Any) -> None:
    data = gan.sample_data(np.random.default_rng(0), 4000)
    assert gan.coverage(data) == (8, pytest.approx(0.989, abs=0.01))     # a plane Gaussian's mass within 3 sigma
    assert gan.coverage(np.tile(gan.MODES[:3], (100, 1))) == (3, 1.0)
    assert gan.coverage(np.zeros((100, 2))) == (0, 0.0)


def test_autograd() -> None:
    pytest.importorskip("autograd")
    pytest.importorskip("sklearn")
    accuracy = re.search(r"test accuracy ([\d.]+)%", run("autograd_mlp.py", "--quick").stdout)
    assert float(accuracy[1] if accuracy else 0) > 95


def test_own_optimizer() -> None:
    assert "resumed half-way: the same bits" in run("own_optimizer.py").stdout


def test_own_optimizer_follows_its_rule(example: Any) -> None:
    SignSGD = example("own_optimizer").SignSGD
    p, still = ol.Parameter(np.zeros(3)), ol.Parameter(np.ones(2))
    opt = SignSGD([{"params": [p]}, {"params": [still], "lr": 1.0}], lr=0.25, momentum=0.5)
    for grad in ([4.0, -4.0, 0.0], [-1.0, 8.0, 0.0]):
        p.grad = np.array(grad)
        opt.step()
    np.testing.assert_array_equal(opt.state[p]["momentum_buffer"], [0.5, 3.0, 0.0])
    np.testing.assert_array_equal(p.data, [-0.5, 0.0, 0.0])
    np.testing.assert_array_equal(still.data, 1)         # no gradient, no step
    assert opt.steps_taken == 2
    with pytest.raises(ValueError, match="`lr` must be >= 0, got -1"):
        SignSGD([p], lr=-1)
    with pytest.raises(ValueError, match="`momentum` must be in"):
        SignSGD([p], momentum=1)


@pytest.mark.rest
def test_every_optimizer_is_drawn(example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    optimizers = example("optimizers")
    shown = {name.partition("(")[0] for name in optimizers.names()}
    assert shown == {*ol.available(), "Lookahead", "SAM"} - {"SparseAdam"}
    monkeypatch.setattr(optimizers, "STEPS", 3)
    monkeypatch.setattr(optimizers, "RATES", [0.1])
    optimizers.draw("rastrigin", tmp_path / "rastrigin.png")
    assert (tmp_path / "rastrigin.png").read_bytes().startswith(b"\x89PNG")


def test_gradients_of_the_two_functions(example: Any) -> None:
    pytest.importorskip("matplotlib")
    optimizers = example("optimizers")
    for function in (optimizers.rosenbrock, optimizers.rastrigin):
        p = np.array([[0.3], [-0.7]])
        np.testing.assert_allclose(function(p)[1], differences(lambda f=function, p=p: f(p)[0], p), rtol=1e-5)
