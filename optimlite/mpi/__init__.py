"""Many machines: an optimizer whose state is spread over the ranks of MPI, and gradients that are averaged over them.

mpi4py is imported by the first call that is given no communicator, and `simulate` needs none.
"""

from ..engine.ranks import RankError
from .checkpoint import gathered, restore, save
from .replicated import average_gradients, broadcast
from .rotation import Checkpoints
from .sharded import Sharded
from .simulate import simulate
from .summed import summed

__all__ = ["Checkpoints", "RankError", "Sharded", "average_gradients", "broadcast", "gathered", "restore", "save",
           "simulate", "summed"]
