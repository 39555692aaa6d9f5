"""Where a run stands: the values of parameters and what an optimizer has learnt, to go back to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.optimizer import Optimizer
from ..engine.parameter import Parameter, check_still_writeable, laid_out


class Snapshot:
    """Copies of parameters and of an optimizer's state; `restore` puts both back in place."""

    def __init__(self, parameters: Sequence[Parameter], optimizer: Optimizer | None = None) -> None:
        self.parameters, self.optimizer = list(parameters), optimizer
        self.values = [laid_out(parameter.data) for parameter in self.parameters]
        self.state_dict: dict[str, Any] = {}
        self.take()

    def take(self) -> None:
        """Copies what there is now, into the memory of the last copy."""
        for value, parameter in zip(self.values, self.parameters, strict=True):
            np.copyto(value, parameter.data)
        if self.optimizer is not None:
            self.state_dict = self.optimizer.state_dict()

    def restore(self) -> None:
        for parameter in self.parameters:
            check_still_writeable(parameter.data, parameter.name)
        for value, parameter in zip(self.values, self.parameters, strict=True):
            parameter.data = value
        if self.optimizer is not None:
            self.optimizer.load_state_dict(self.state_dict)
