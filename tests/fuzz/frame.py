"""What the targets share: instrumented imports, values made of bytes, and one invariant.

Whatever is given to a call, it does its work, or it raises a documented exception and nothing has changed.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import atheris
import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

with atheris.instrument_imports(include=["optimlite"]):
    import optimlite as ol
    from optimlite.__main__ import main  # noqa: F401
    from optimlite.checkpoint import header, reader, restoring, transfer, tree  # noqa: F401
    from optimlite.closures import conjugate_gradient, lbfgs  # noqa: F401
    from optimlite.engine import nesting, whole_matrix  # noqa: F401
    from support.helpers import snapshot
    for _name in ol.__all__:
        getattr(ol, _name)               # what is imported at first use

REFUSALS = (TypeError, ValueError, KeyError)


def run(one: Callable[[bytes], None], *options: str) -> None:
    """Runs a target with the command line of libFuzzer; `options` are those that it has of its own."""
    warnings.simplefilter("ignore")
    ol.set_num_threads(1)
    atheris.Setup([*sys.argv, "-timeout=20", *(options or ("-max_len=1024", "-len_control=0"))], one)
    atheris.Fuzz()


def done(call: Callable[[], object], watched: Callable[[], Any]) -> bool:
    """Whether a call did its work; RuntimeError if it was refused and what is watched isn't as it was before."""
    before = watched()
    try:
        call()
    except REFUSALS as fault:
        if watched() != before:
            raise RuntimeError("refused, but something was changed") from fault
        if not str(fault):
            raise RuntimeError("refused without a word") from fault
        return False
    return True


def image(node: Any) -> Any:
    """What a nesting holds, to be compared: arrays by their bits and layout, numbers by their text."""
    if isinstance(node, np.ndarray):
        bits = repr(node) if node.dtype.hasobject else node.tobytes()
        return type(node), node.dtype.str, node.shape, node.strides, bits
    if isinstance(node, ol.Parameter):
        return image(node.data), image(node.grad)
    if isinstance(node, ol.SparseGrad):
        return image(node.indices), image(node.values)
    if isinstance(node, ol.Optimizer):
        return snapshot(node)
    if isinstance(node, Mapping):
        return [(repr(key), image(value)) for key, value in node.items()]
    if isinstance(node, (list, tuple)):
        return type(node), [image(item) for item in node]
    text = repr(node)
    return type(node), "" if " at 0x" in text else text


class Plain:
    """An object that is nothing that anybody expects."""

    def __repr__(self) -> str:
        return "Plain"


# The first of each is what bytes that have come to an end give.
NUMBERS: list[Any] = [
    0, 1, 0.5, -1, 1e-3, 0.9, 2, -0.0, 1.0, 1e-320, 1e300, -1e300, float("inf"), float("-inf"), float("nan"), 255, -129,
    2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**300, 10**400, True, False, None, 1j,
    np.float16(0.1), np.float32(0.1), np.float64(0.1), np.longdouble(0.1), np.int8(3), np.int64(3), np.uint64(2**63),
    np.bool_(True), np.float32("nan"), np.complex64(1), np.datetime64("2000"), np.str_("0.1")]
WORDS = ["lr", "params", "", "betas", "weight_decay", "momentum", "eps", "maximize", "param_names", "state", "W", "b",
         "param_groups", "step", "exp_avg", "exp_avg_sq", "momentum_buffer", "last_epoch", "values", "base_lrs", "type",
         "initial_lr", "learning_rate", "beta1", "lrr", "0", "a.b", "fused", "foreach", "name", "$array", "\0", "ü",
         "\ud800"]
DTYPES = ["<f4", "<f8", ">f4", ">f8", "<f2", "g", "<c8", "<c16", "?", "i1", "u1", "<i4", "<i8", "<u8", ">i8", "O", "S3",
          "<U2", "<M8[s]", "<m8[s]", "V4"]
SHAPES: list[tuple[int, ...]] = [(3, 4), (5,), (), (4, 3), (3,), (0,), (1,), (3, 0), (3, 4, 1), (1, 1), (12,),
                                 (2, 2, 2), (33,), (1, 12), (3, 1), (5, 1)]


class Source:
    """Choices and values made of a target's bytes."""

    def __init__(self, data: bytes) -> None:
        self.bytes = atheris.FuzzedDataProvider(data)

    def below(self, count: int) -> int:
        return int(self.bytes.ConsumeIntInRange(0, count - 1))

    def pick(self, choices: Any) -> Any:
        return choices[self.below(len(choices))]

    def number(self) -> Any:
        kind = self.below(8)
        return (self.bytes.ConsumeFloat() if kind == 7 else self.bytes.ConsumeInt(9) if kind == 6
                else self.pick(NUMBERS))

    def word(self) -> str:
        return self.bytes.ConsumeUnicode(6) if self.below(8) == 7 else self.pick(WORDS)

    def value(self, depth: int = 4) -> Any:
        """Anything: a number, a word, an array, something odd, or a nesting of them."""
        kind = self.below(16 if depth else 10)
        if kind < 5:
            return self.number()
        if kind < 7:
            return self.word()
        if kind < 9:
            return self.array()
        if kind == 9:
            return self.pick([None, Plain(), b"bytes", ol.Parameter(np.ones(5, np.float32)), ..., range(2),
                              ol.SparseGrad([0], np.ones((1, 4), np.float32)), frozenset((1, 2))])
        items = [self.value(depth - 1) for _ in range(self.below(4))]
        if kind < 12:
            return items
        if kind < 14:
            return tuple(items)
        if kind == 14:
            return {self.pick([self.word(), self.number()]): item for item in items}
        return self.pick([iter(items), {self.word() for _ in items}, (self.word(), items)])

    def array(self, like: np.ndarray | None = None, among: list[np.ndarray] | None = None) -> np.ndarray:
        """An array of any dtype, shape and layout: often as `like`, at times a part of one of those `among`."""
        plain = like is not None and self.below(3) > 0
        dtype = like.dtype if plain else np.dtype(self.pick(DTYPES))
        shape = like.shape if plain and self.below(4) else self.pick(SHAPES)
        size = int(np.prod(shape))
        if among and self.below(3) == 2:
            other = np.asarray(self.pick(among))         # the very memory, where that has no gaps
            memory = np.ravel(np.zeros(0) if other.dtype.hasobject else other, order="K").view(np.uint8)
            start = self.below(max(1, len(memory) - size * dtype.itemsize + 1))
            if not dtype.hasobject and len(memory) - start >= size * dtype.itemsize > 0:
                return memory[start:start + size * dtype.itemsize].view(dtype).reshape(shape)
        values = self.values(dtype, size).reshape(shape)
        return self.pick(LAYOUTS)(values)

    def values(self, dtype: np.dtype, size: int) -> np.ndarray:
        if dtype.hasobject:
            return np.array([self.number() for _ in range(size)], object)
        if self.below(2):                        # any bits
            pattern = np.frombuffer(self.bytes.ConsumeBytes(9) or b"\0", np.uint8)
            return np.resize(pattern, size * dtype.itemsize).view(dtype)[:size].copy()
        start = self.below(100)
        return (np.arange(start, start + size) % 101 / 8 - 5).astype(np.float64).astype("i8").astype(dtype) if \
            dtype.kind not in "fc" else (np.arange(start, start + size) % 101 / 8 - 5).astype(dtype)

    def altered(self, node: Any, depth: int = 8) -> Any:
        """A nesting with something in one place replaced, removed, doubled or added."""
        inside = isinstance(node, (dict, list, tuple)) and len(node) and depth
        if inside and self.below(4):
            if isinstance(node, dict):
                key = self.pick(list(node))
                return {**node, key: self.altered(node[key], depth - 1)}
            at = self.below(len(node))
            return type(node)([*node[:at], self.altered(node[at], depth - 1), *node[at + 1:]])
        action = self.below(6)
        if isinstance(node, dict) and action < 4:
            key = self.pick([*node, None])
            if action == 0 and node:
                return {other: value for other, value in node.items() if other != key}
            return {**node, self.pick([self.word(), self.number(), key]): self.pick([self.value(), node.get(key)])}
        if isinstance(node, (list, tuple)) and action < 4:
            at = self.below(len(node) + 1)
            return type(node)([*node[:at], *[[], [self.value()], list(node[at:at + 1]) * 2, list(node)][action],
                               *node[at + 1:]])
        if isinstance(node, np.ndarray) and action < 4:
            return self.array(node)
        return self.number() if isinstance(node, (int, float)) and action < 4 else self.value()


def strided(a: np.ndarray) -> np.ndarray:
    wide = np.zeros((*a.shape, 2), a.dtype)
    wide[..., 0] = a
    return wide[..., 0]


def misaligned(a: np.ndarray) -> np.ndarray:
    if a.dtype.hasobject:
        return a
    memory = np.zeros(a.nbytes + 1, np.uint8)
    odd = memory[1:].view(a.dtype).reshape(a.shape) if a.size else a
    odd[...] = a
    return odd


def read_only(a: np.ndarray) -> np.ndarray:
    a.flags.writeable = False
    return a


LAYOUTS: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda a: a, np.asfortranarray, strided, misaligned, read_only,
    lambda a: np.ascontiguousarray(a[::-1])[::-1] if a.ndim else a,
    lambda a: np.ascontiguousarray(a.T).T,
    lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim and len(a) else a,
    lambda a: np.broadcast_to(a.ravel()[:1].reshape(()), a.shape) if a.size else a,    # no element: text may be broken
    lambda a: np.ma.MaskedArray(a, False),
    lambda a: a.view(np.recarray)]
