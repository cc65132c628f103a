"""Networks: CheXNet in every size, the checkpoints people have, and what an image costs.

>>> from chexlib.models import CheXNet
>>> CheXNet(growth_rate=12)
CheXNet(densenet121, growth rate 12, 1,005,086 parameters)
"""

from chexlib.models.architectures import ARCHITECTURES
from chexlib.models.checkpoints import load_checkpoint, phantom_checkpoint, save_checkpoint
from chexlib.models.chexnet import CheXNet, Cost, cost
from chexlib.models.weights import CheckpointError
