"""Every public name of every public module has its reference: what it takes, what it raises, its source, an example.

A module of the package is public if it says what is in it, by `__all__`; what it needs may not be installed.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import run_examples
from support.paths import ROOT

PACKAGE = Path(ol.__file__).parent
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")}
DIRECTIVE = re.compile(r"^\.\. (?:auto(?:class|function|exception)|py:data):: optimlite\.([\w.]+)"
                       r"((?:\n\n?   .*)*)", re.M)
# `checkpoint` is the home of names that `optimlite` has; the twins are for those who test kernels.
INNER = {"checkpoint", "reference"}
SUBMODULES = {"line_search", "log", "lr_scheduler", "schedules"}


def listed(path: Path) -> list[str]:
    """A module's `__all__`, without importing it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def public() -> list[str]:
    names = [name for name in ol.__all__ if name not in SUBMODULES]
    for path in sorted([*PACKAGE.glob("*.py"), *PACKAGE.glob("*/__init__.py")]):
        module = path.parent.name if path.stem == "__init__" else path.stem
        if path.parent != PACKAGE or path.stem != "__init__":
            names += [f"{module}.{name}" for name in listed(path) if module not in INNER]
    return names


NAMES = public()
DOCUMENTED = {name: (page, said) for page, text in PAGES.items() for name, said in DIRECTIVE.findall(text)}


def found(name: str) -> Any:
    module, _, last = name.rpartition(".")
    library = {"jax": "jax", "sklearn": "sklearn", "torch": "torch"}.get(module)
    if library:
        pytest.importorskip(library)
    return getattr(importlib.import_module(f"optimlite.{module}" if module else "optimlite"), last)


def text_of(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split())


def errors_of(page: str) -> str:
    """The page's words on errors that hold for all of its names."""
    return " ".join(PAGES[page].partition("\n## Errors\n")[2].partition("\n## ")[0].split())


def callables() -> list[str]:
    constants = {f"line_search.{name}" for name in ("Phi", "SEARCHES")}
    return [name for name in NAMES if name not in constants]


def test_the_public_modules_are_these() -> None:
    modules = {name.rpartition(".")[0] for name in NAMES}
    assert modules == {"", *SUBMODULES, "autograd", "jax", "mpi", "sklearn", "thinc", "torch"}


def test_every_public_name_is_in_the_reference_once() -> None:
    entries = [name for text in PAGES.values() for name, _ in DIRECTIVE.findall(text)]
    assert sorted(entries) == sorted(NAMES)
    assert "automodule" not in "".join(PAGES.values())               # it lists names by itself, or leaves some out


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(callables())))
def test_a_constant_is_described_on_its_page(name: str) -> None:
    assert len(DOCUMENTED[name][1].split()) > 10


@pytest.mark.parametrize("name", callables())
def test_the_reference_says_what_a_name_takes_and_raises(name: str) -> None:
    thing = found(name)
    text = text_of(thing)
    assert re.match(r"[A-Z`].*?[.:]( |$)", text), "a docstring begins with a sentence"
    if isinstance(thing, type) and issubclass(thing, BaseException):
        return
    for argument, parameter in inspect.signature(thing).parameters.items():
        assert re.search(rf"\b{argument}\b", text), argument
        assert parameter.default is not ..., argument                # a default that is shown means something
    raises = re.search(r"\b[Rr]aises?\b.*[A-Z]\w+(?:Error|Exit|Interrupt)\b|Raises as `\w+` does|"
                       r"see `optimizer`, which also says what is raised", text, re.S)
    assert raises or re.search(rf"Everything on this page|on this page raise |`{name}`", errors_of(DOCUMENTED[name][0]))


@pytest.mark.parametrize("name", callables())
def test_the_reference_says_what_shape_arrays_have(name: str) -> None:
    thing = found(name)
    if isinstance(thing, type) and issubclass(thing, BaseException):
        return
    arrays = {"params", "parameters", "tensors", "x0", "x", "weights", "indices", "values", "array", "grads"}
    taken = {each.name for each in inspect.signature(thing).parameters.values() if each.kind is not each.VAR_KEYWORD}
    if arrays & taken:
        elsewhere = "see `optimizer`|as for `clip_grad_norm_`|as the class takes them|as torch's own optimizers take"
        assert re.search(rf"\bnest(ed|ing)\b|\bshapes?\b|\bax[ei]s\b|{elsewhere}", text_of(thing))


def has_a_source(name: str) -> bool:
    """Whether it is a method that somebody has published, or torch's."""
    thing = getattr(ol, name) if "." not in name else None
    method = isinstance(thing, type) and issubclass(thing, ol.Optimizer) and thing is not ol.Optimizer
    schedule = name.startswith(("lr_scheduler.", "schedules.")) and name != "lr_scheduler.LRScheduler"
    return method or schedule or name in ("line_search.strong_wolfe", "line_search.hager_zhang",
                                          "line_search.backtracking", "NoiseScale", "lr_find")


@pytest.mark.parametrize("name", [name for name in NAMES if has_a_source(name)])
def test_the_reference_names_the_source(name: str) -> None:
    assert re.search(r"\b(19|20)\d\d\b|torch\.optim|torch's", text_of(found(name)))


@pytest.mark.parametrize("name", callables())
def test_the_reference_has_an_example_that_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "lr_scheduler.LRScheduler":       # it has a class of the reader's own
        assert "class HalfLifeLR(LRScheduler):" in text_of(found(name))
        return
    monkeypatch.chdir(tmp_path)
    threads, w = ol.get_num_threads(), np.ones(2)
    schedules = {each: getattr(ol.lr_scheduler, each) for each in ol.lr_scheduler.__all__}
    names = {**schedules, "np": np, "ol": ol, "mpi": importlib.import_module("optimlite.mpi"), "__file__": __file__,
             "opt": ol.SGD([w], lr=1.0, momentum=0.9)}
    try:
        assert run_examples(found(name), **names) > 0
    finally:
        ol.set_num_threads(threads)


# What the words on errors say ----------------------------------------------------------------------------------------

W = np.ones(3)


def squares(x: Any) -> Any:
    return float(x @ x), 2 * x


def sgd() -> ol.SGD:
    return ol.SGD([np.ones(3)], lr=1.0)


def nothing(t: float) -> Any:
    return None


def bridge(name: str) -> Any:
    return importlib.import_module(f"optimlite.{name}")


def fall(t: float) -> tuple[float, float]:
    return -t, -1.0


RAISED: list[tuple[str, type[BaseException], Callable[[], Any]]] = [
    ("AdamW", ValueError, lambda: ol.AdamW([W], lr=-1)),
    ("AdamW", TypeError, lambda: ol.AdamW([W], lr="a")),                                         # type: ignore
    ("AdamW", TypeError, lambda: ol.AdamW([W], rate=1)),                                         # type: ignore
    ("LDoG", ValueError, lambda: ol.LDoG([W], reps_rel=0)),
    ("Checkpoints", ValueError, lambda: ol.Checkpoints("run", keep=0)),
    ("Checkpoints", ValueError, lambda: ol.Checkpoints("run", mode="low")),
    ("Checkpoints", ValueError, lambda: ol.Checkpoints("run", best="loss").save(w=W)),
    ("Checkpoints", TypeError, lambda: ol.Checkpoints("run", best=3)),                           # type: ignore
    ("Checkpoints", OSError, lambda: ol.Checkpoints("file/run")),
    ("EarlyStopping", ValueError, lambda: ol.EarlyStopping([W], patience=0)),
    ("EarlyStopping", ValueError, lambda: ol.EarlyStopping([W], min_delta=-1)),
    ("EarlyStopping", ValueError, lambda: ol.EarlyStopping([W], mode="low")),
    ("EarlyStopping", TypeError, lambda: ol.EarlyStopping([W]).step("low")),                     # type: ignore
    ("NoiseScale", ValueError, lambda: ol.NoiseScale(0)),
    ("NoiseScale", ValueError, lambda: ol.NoiseScale(1, decay=1)),
    ("NoiseScale", ValueError, lambda: ol.NoiseScale(1).step([W])),
    ("NoiseScale", TypeError, lambda: ol.NoiseScale(1).add(["a"])),
    ("Progress", ValueError, lambda: ol.Progress(total=0)),
    ("Progress", TypeError, lambda: ol.Progress(total="a")),                                     # type: ignore
    ("check_grad", ValueError, lambda: ol.check_grad(squares, W, directions=0)),
    ("check_grad", ValueError, lambda: ol.check_grad(squares, W, tolerance=0)),
    ("check_grad", ValueError, lambda: ol.check_grad(lambda w: (1.0, None), W)),
    ("check_grad", ValueError, lambda: ol.check_grad(lambda w: (1.0, w[:2]), W)),
    ("check_grad", TypeError, lambda: ol.check_grad(lambda w: (1.0, w.astype(np.float32)), W)),
    ("check_grad", TypeError, lambda: ol.check_grad(3, W)),                                      # type: ignore
    ("check_grad", TypeError, lambda: ol.check_grad(squares, W.astype(np.float16))),
    ("plot_metrics", ValueError, lambda: ol.plot_metrics({"step": [0], "loss": [1.0]}, "rate")),
    ("plot_metrics", ValueError, lambda: ol.plot_metrics({"step": [0]})),
    ("plot_metrics", ValueError, lambda: ol.plot_metrics({"step": [0], "loss": [1.0]}, smoothing=1)),
    ("log.TensorBoard", TypeError, lambda: ol.log.TensorBoard(3)),                               # type: ignore
    ("log.TensorBoard", OSError, lambda: ol.log.TensorBoard("file/run")),
    ("log.CSV", FileExistsError, lambda: ol.log.CSV("file")),
    ("log.CSV", ValueError, lambda: ol.log.CSV("file", append=True)),
    ("log.CSV", TypeError, lambda: ol.log.CSV(3)),                                               # type: ignore
    ("log.CSV.write", TypeError, lambda: ol.log.CSV("new").write(0, {"loss": "a"})),
    ("log.CSV.write", TypeError, lambda: ol.log.CSV("new").write(0, {3: 1})),                    # type: ignore
    ("log.read", FileNotFoundError, lambda: ol.log.read("none.csv")),
    ("log.read", FileNotFoundError, lambda: ol.log.read(".")),
    ("log.read", TypeError, lambda: ol.log.read(3)),                                             # type: ignore
    ("clip_grads_with_norm_", ValueError, lambda: ol.clip_grads_with_norm_([W], -1, 1)),
    ("clip_grads_with_norm_", ValueError, lambda: ol.clip_grads_with_norm_([np.broadcast_to(1.0, 3)], 1, 2)),
    ("clip_grads_with_norm_", TypeError, lambda: ol.clip_grads_with_norm_([np.ones(3, int)], 1, 2)),
    ("register_optimizer_step_pre_hook", TypeError, lambda: ol.register_optimizer_step_pre_hook(3)),     # type: ignore
    ("register_optimizer_step_post_hook", TypeError, lambda: ol.register_optimizer_step_post_hook(3)),   # type: ignore
    ("set_num_threads", ValueError, lambda: ol.set_num_threads(0)),
    ("set_num_threads", ValueError, lambda: ol.set_num_threads("a")),                            # type: ignore
    ("set_flush_denormal", TypeError, lambda: ol.set_flush_denormal(1)),                         # type: ignore
    ("minimize", TypeError, lambda: ol.minimize(squares, "a")),
    ("minimize", TypeError, lambda: ol.minimize(lambda x: None, W)),
    ("minimize", ValueError, lambda: ol.minimize(squares, W, method="a")),
    ("minimize", ValueError, lambda: ol.minimize(squares, W, options={"a": 1})),
    ("minimize", ValueError, lambda: ol.minimize(squares, W, bounds=[(0, 1)] * 2)),
    ("minimize", ValueError, lambda: ol.minimize(squares, W, constraints=[{}])),
    ("minimize", ValueError, lambda: ol.minimize(lambda x: (1.0, x[:2]), W)),
    ("line_search.strong_wolfe", ValueError, lambda: ol.line_search.strong_wolfe(fall, np.nan, -1)),
    ("line_search.hager_zhang", ValueError, lambda: ol.line_search.hager_zhang(fall, 0, 1)),
    ("line_search.backtracking", ValueError, lambda: ol.line_search.backtracking(fall, 0, -1, step=0)),
    ("lr_scheduler.StepLR", TypeError, lambda: ol.lr_scheduler.StepLR(3, 1)),                    # type: ignore
    ("lr_scheduler.StepLR", TypeError, lambda: ol.lr_scheduler.StepLR(sgd(), "a")),              # type: ignore
    ("lr_scheduler.StepLR", TypeError, lambda: ol.lr_scheduler.StepLR(sgd(), 1, rate=1)),        # type: ignore
    ("lr_scheduler.StepLR", ValueError, lambda: ol.lr_scheduler.StepLR(sgd(), 1, gamma=-1)),
    ("lr_scheduler.StepLR", ValueError, lambda: ol.lr_scheduler.StepLR(sgd(), 1, key="rate")),
    ("lr_scheduler.StepLR", KeyError, lambda: ol.lr_scheduler.StepLR(sgd(), 1, last_epoch=3)),
    ("lr_scheduler.SWALR", ValueError, lambda: ol.lr_scheduler.SWALR(sgd(), [0.1, 0.2])),
    ("lr_scheduler.SWALR", ValueError, lambda: ol.lr_scheduler.SWALR(sgd(), 0.1, anneal_strategy="a")),
    ("lr_scheduler.LambdaLR", TypeError, lambda: ol.lr_scheduler.LambdaLR(sgd(), 3)),            # type: ignore
    ("lr_scheduler.MultiStepLR", TypeError, lambda: ol.lr_scheduler.MultiStepLR(sgd(), 3)),      # type: ignore
    ("lr_scheduler.OneCycleLR", ValueError, lambda: ol.lr_scheduler.OneCycleLR(
        sgd(), 1, total_steps=2, cycle_momentum=False).at(3)),
    ("schedules.multiplied_by", TypeError, lambda: ol.schedules.multiplied_by(1.0, nothing)),
    ("schedules.cosine", ValueError, lambda: ol.schedules.cosine(np.nan, 9)),
    ("schedules.one_cycle", ValueError, lambda: ol.schedules.one_cycle(1.0, total_steps=2)(3)),
    ("mpi.simulate", ValueError, lambda: bridge("mpi").simulate(0, nothing)),
    ("autograd.adam", TypeError, lambda: bridge("autograd").adam(lambda x, i: 3.0, W)),
    ("autograd.rmsprop", ValueError, lambda: bridge("autograd").rmsprop(lambda x, i: x[:2], W)),
    ("autograd.sgd", ValueError, lambda: bridge("autograd").sgd(lambda x, i: x, W, num_iters=-1)),
    ("autograd.optimizer", TypeError, lambda: bridge("autograd").optimizer(ol.AdamW)(lambda x, i: x, W, rate=1)),
    ("jax.value_and_grad", TypeError, lambda: bridge("jax").value_and_grad(3)),
    ("jax.value_and_grad", ValueError, lambda: bridge("jax").value_and_grad(lambda w: w.sum())(W)),
    ("sklearn.MLPRegressor", TypeError, lambda: bridge("sklearn").MLPRegressor(optimizer="lion").fit([[1]], [1])),
    ("sklearn.MLPClassifier", TypeError, lambda: bridge("sklearn").MLPClassifier(optimizer=ol.LBFGS).fit(
        [[1], [2]], [0, 1])),
    ("thinc.Optimizer", TypeError, lambda: bridge("thinc").Optimizer(ol.LBFGS)),
    ("thinc.Optimizer", TypeError, lambda: bridge("thinc").Optimizer(ol.SGD)("W", [1.0], W)),
    ("thinc.Optimizer", ValueError, lambda: bridge("thinc").Optimizer(ol.SGD)("W", np.ones(3), np.ones(2))),
    ("torch.wrap", TypeError, lambda: bridge("torch").wrap(3)),
    ("torch.TensorOptimizer", TypeError, lambda: bridge("torch").Adam([bridge("torch").torch.ones(2).int()])),
    ("torch.TensorOptimizer", ValueError, lambda: bridge("torch").Adam(
        [bridge("torch").torch.ones(2, device="meta")])),
]


@pytest.mark.parametrize(("name", "kind", "call"), RAISED, ids=[f"{row[0]}-{row[1].__name__}" for row in RAISED])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_the_reference_says_of_errors_is_so(name: str, kind: type[BaseException], call: Callable[[], Any],
                                                 tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a,b\n")
    owner, _, method = name.rpartition(".") if name.endswith(".write") else (name, "", "")
    thing = found(owner)
    with pytest.raises(kind) as caught:
        call()
    assert caught.type is kind or kind is OSError
    said = text_of(getattr(thing, method) if method else thing) + errors_of(DOCUMENTED[owner][0])
    if "see `optimizer`" in said:
        said += text_of(found(f"{owner.partition('.')[0]}.optimizer"))
    assert kind.__name__ in said


def test_where_one_rank_fails_the_others_say_so(tmp_path: Path) -> None:
    mpi = bridge("mpi")

    def raised(comm: Any, call: Callable[[bool], Any]) -> str:
        with pytest.raises((ValueError, TypeError, mpi.RankError)) as caught:
            call(comm.rank == 0)
        return caught.type.__name__

    def save(comm: Any) -> str:
        return raised(comm, lambda first: mpi.save(3 if first else tmp_path / "run", comm, w=np.ones(2)))

    def average(comm: Any) -> str:
        w = ol.Parameter(np.ones(2))
        return raised(comm, lambda first: mpi.average_gradients([w], comm, "all" if first else "mean"))

    def step(comm: Any) -> str:
        opt = mpi.Sharded(ol.SGD([np.ones(2)], lr=1.0), comm)
        return raised(comm, lambda first: opt.step(grads=[np.ones(3 if first else 2)]))

    def folder(comm: Any) -> str:
        return raised(comm, lambda first: mpi.Checkpoints(tmp_path / "runs", comm, keep=0 if first else 1))

    assert [mpi.simulate(3, call) for call in (save, average, step, folder)] == [
        [kind, "RankError", "RankError"] for kind in ("TypeError", "ValueError", "ValueError", "ValueError")]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_what_a_hook_raises_comes_out_of_the_step(before: bool) -> None:
    w = np.ones(2)
    opt = ol.SGD([w], lr=1.0)

    def refuse(*_: Any) -> None:
        raise LookupError

    register = ol.register_optimizer_step_pre_hook if before else ol.register_optimizer_step_post_hook
    with register(refuse), pytest.raises(LookupError):
        opt.step(grads=[np.ones(2)])
    assert w.tolist() == [1, 1] if before else w.tolist() == [0, 0]
