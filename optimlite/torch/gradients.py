"""Gradients of tensors, brought to the parameters that step.

Asking torch for an array costs several times what asking for an address does.  So small tensors of like shape are
concatenated by one call, into memory that stays bound to their parameters; the others are read where they lie.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import torch

from ..engine.parameter import Parameter
from ..native.parameters import forget_gradients
from .tensors import gradient_of, memory_of

SMALL = 16_384                   # elements: to copy so many costs less than to ask for an array
FEWEST = 4                       # tensors that are worth a call of their own

grad_of = operator.attrgetter("grad")
address = torch.Tensor.data_ptr
# What says whether a tensor's values are where they were, laid out as they were.
ASPECTS = address, torch.Tensor.stride
OF_COMPLEX = *ASPECTS, torch.Tensor.is_conj, torch.Tensor.is_neg


class Lying:
    """Gradients that are read where they lie.

    An address doesn't say what is there: another tensor may have it, such as the transpose or the conjugate, and the
    same tensor may be given other memory, or be transposed in place.
    """

    def __init__(self, tensors: list[torch.Tensor], parameters: list[Parameter], names: list[str]) -> None:
        self.tensors, self.parameters, self.names = tensors, parameters, names
        self.aspects = aspects_of(tensors)
        self.gradients: list[Any] = [None] * len(tensors)        # those that the parameters have
        self.places: list[Any] = [None] * len(tensors)           # and their aspects

    def bring(self) -> bool:
        """Gives the parameters their gradients; False if one has none."""
        gradients = [*map(grad_of, self.tensors)]
        places = self.all_places(gradients)
        if not all(map(operator.is_, gradients, self.gradients)) or places != self.places:
            for at, grad in enumerate(gradients):
                if grad is not self.gradients[at] or places[at] != self.places[at]:
                    self.bind(at, grad)
                    self.gradients[at] = grad
                    self.places[at] = places[at] if grad is None or in_place(grad) else object()
        return None not in places

    def all_places(self, gradients: list[Any]) -> list[Any]:
        """Of each gradient: None if there is none, something unequal to all else if it is sparse."""
        try:
            return places_of(gradients, self.aspects)
        except (TypeError, RuntimeError):        # None among them, or sparse ones
            dense = [grad is not None and grad.layout is torch.strided for grad in gradients]
            found = iter(places_of([*compress(gradients, dense)], self.aspects))
            return [next(found) if lies else None if grad is None else object()
                    for grad, lies in zip(gradients, dense, strict=True)]

    def bind(self, at: int, grad: torch.Tensor | None) -> None:
        self.gradients[at] = None                # whatever happens in between
        self.parameters[at].grad = None if grad is None else gradient_of(grad, self.names[at])

    def let_go(self) -> None:
        """Keeps none alive."""
        forget_gradients(self.parameters)
        self.gradients = [None] * len(self.tensors)

    def stepped(self) -> None:
        """Small ones stay bound."""


class Large(Lying):
    """Those that torch may drop after the step: the next backward pass needs the memory."""

    def bring(self) -> bool:
        gradients = [*map(grad_of, self.tensors)]
        for at, grad in enumerate(gradients):
            self.bind(at, grad)
        return all([grad is not None for grad in gradients])

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
            join([*map(grad_of, self.tensors)], self.memory)
        except (TypeError, RuntimeError):        # None among them, sparse ones, or of another size
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


def join(gradients: list[Any], memory: torch.Tensor) -> None:
    out = memory.detach()                        # which torch resizes where the gradients have another size
    try:
        torch.cat(gradients, out=out)
    except RuntimeError:                         # they have a graph: a loop may ask for derivatives of derivatives
        with torch.no_grad():
            torch.cat(gradients, out=out)
    if len(out) != len(memory):
        raise RuntimeError("a parameter was cut where it lies")  # its gradient is refused


def aspects_of(tensors: Sequence[torch.Tensor]) -> tuple[Callable[[torch.Tensor], Any], ...]:
    return OF_COMPLEX if any([tensor.is_complex() for tensor in tensors]) else ASPECTS


def places_of(tensors: Sequence[torch.Tensor], aspects: tuple[Callable[[torch.Tensor], Any], ...]) -> list[Any]:
    return [*zip(*[map(aspect, tensors) for aspect in aspects], strict=True)]


def in_place(grad: torch.Tensor) -> bool:
    """Whether a gradient is read where it lies; else it is read anew before each step."""
    return grad.layout is torch.strided and not (grad.is_conj() or grad.is_neg())


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
