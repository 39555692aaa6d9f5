"""Gradients of tensors, brought to the parameters that step.

Asking torch for an array costs several times what asking for an address does.  So small tensors of like shape are
concatenated by one call, into memory that stays bound to their parameters; the others are read where they lie.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch

from ..engine.parameter import Parameter
from ..native.parameters import forget_gradients
from .tensors import gradient_of, memory_of

SMALL = 16_384                   # elements: to copy so many costs less than to ask for an array
FEWEST = 4                       # tensors that are worth a call of their own

grad_of = operator.attrgetter("grad")
address = torch.Tensor.data_ptr


class Lying:
    """Gradients that are read where they lie."""

    def __init__(self, tensors: list[torch.Tensor], parameters: list[Parameter], names: list[str]) -> None:
        self.tensors, self.parameters, self.names = tensors, parameters, names
        self.bound: list[object] = [None] * len(tensors)         # the addresses of those that the parameters have

    def bring(self) -> bool:
        """Gives the parameters their gradients; False if one has none."""
        gradients = [*map(grad_of, self.tensors)]
        try:
            there: list[object] = [*map(address, gradients)]
        except (TypeError, RuntimeError):        # None, or sparse
            there = [*map(address_of, gradients)]
        if there != self.bound:
            for at, (now, before) in enumerate(zip(there, self.bound, strict=True)):
                if now != before:
                    self.bind(at, gradients[at])
                    self.bound[at] = address_of(gradients[at])
        return None not in there

    def bind(self, at: int, grad: torch.Tensor | None) -> None:
        self.bound[at] = None                    # whatever happens in between
        self.parameters[at].grad = None if grad is None else gradient_of(grad, self.names[at])

    def let_go(self) -> None:
        """Keeps none alive."""
        forget_gradients(self.parameters)
        self.bound = [None] * len(self.tensors)

    def stepped(self) -> None:
        """Small ones stay bound."""


class Large(Lying):
    """Those that torch may drop after the step: the next backward pass needs the memory."""

    def stepped(self) -> None:
        self.let_go()


class Gathered(Lying):
    """Those of small tensors, which differ in the length of their first axis alone: gathered in memory of our own."""

    def __init__(self, tensors: list[torch.Tensor], parameters: list[Parameter], names: list[str]) -> None:
        super().__init__(tensors, parameters, names)
        lengths = [len(tensor) for tensor in tensors]
        self.memory = torch.empty((sum(lengths), *tensors[0].shape[1:]), dtype=tensors[0].dtype)
        self.arrays = [memory_of(piece) for piece in torch.split(self.memory, lengths)]
        self.gathered = False                    # whether the parameters have these arrays

    def bring(self) -> bool:
        try:
            with torch.no_grad():
                torch.cat([*map(grad_of, self.tensors)], out=self.memory)        # type: ignore[arg-type]
        except (TypeError, RuntimeError):        # None among them, or sparse ones
            if self.gathered:
                super().let_go()
                self.gathered = False
            return super().bring()
        if not self.gathered:
            super().let_go()
            for parameter, array in zip(self.parameters, self.arrays, strict=True):
                parameter.grad = array
            self.gathered = True
        return True

    def let_go(self) -> None:
        if not self.gathered:
            super().let_go()


def address_of(grad: torch.Tensor | None) -> object:
    """Where a gradient lies; something unequal to all else if that can't be said, or it isn't read there."""
    if grad is None:
        return None
    return grad.data_ptr() if grad.layout is torch.strided and not (grad.is_conj() or grad.is_neg()) else object()


def sorted_by_size(tensors: Sequence[torch.Tensor], parameters: Sequence[Parameter], names: Sequence[str],
                   ) -> list[Lying]:
    """All gradients, in as few parts as possible."""
    large = [at for at, tensor in enumerate(tensors) if tensor.numel() > SMALL]
    alike: dict[object, list[int]] = {}
    for at, tensor in enumerate(tensors):
        if tensor.numel() <= SMALL:
            like = (tensor.dtype, tensor.shape[1:]) if tensor.ndim and tensor.numel() else None
            alike.setdefault(like, []).append(at)
    few = [key for key, places in alike.items() if key is None or len(places) < FEWEST]
    rest = sorted(at for key in few for at in alike.pop(key))
    parts = [(Gathered, places) for places in alike.values()] + [(Lying, rest), (Large, large)]
    return [kind([tensors[at] for at in places], [parameters[at] for at in places], [names[at] for at in places])
            for kind, places in parts if places]
