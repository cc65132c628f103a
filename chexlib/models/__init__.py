"""Networks: CheXNet in every size, the checkpoints people have, and what an image costs.

>>> from chexlib.models import CheXNet
>>> CheXNet(growth_rate=12)
CheXNet(densenet121, growth rate 12, 1,005,086 parameters)
"""

from chexlib.models.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from chexlib.models.chexnet import ARCHITECTURES, CheXNet
from chexlib.models.cost import Cost, cost
from chexlib.models.shipped import phantom_checkpoint

__all__ = [
    "ARCHITECTURES",
    "CheXNet",
    "CheckpointError",
    "Cost",
    "cost",
    "load_checkpoint",
    "phantom_checkpoint",
    "save_checkpoint",
]
