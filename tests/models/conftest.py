"""Networks to compare with: torchvision's own, with batch statistics that matter."""

import pytest
import torch
from torchvision.models import DenseNet
from torchvision.transforms.functional import normalize

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def randomise(network, seed):
    """Give every tensor of a network a value of its own, so that none can stand for another."""
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=draw)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(seed + 7)
        elif tensor.ndim == 1:
            tensor.normal_(0.8 if name.endswith("weight") else 0, 0.2, generator=draw)
        elif name.endswith("classifier.weight"):
            tensor.normal_(0, 0.1, generator=draw)
    return network.eval()


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks on shared cores: threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make():
    """Return a function that builds torchvision's DenseNet, randomised."""

    def build(*, growth=4, blocks=(6, 12, 24, 16), outputs=14, seed=0, channels=3):
        torch.manual_seed(seed)
        network = DenseNet(growth, blocks, 2 * growth, num_classes=outputs)
        if channels != 3:
            stem = torch.nn.Conv2d(channels, 2 * growth, 7, stride=2, padding=3, bias=False)
            network.features.conv0 = stem
        return randomise(network, seed)

    return build


@pytest.fixture
def images():
    """Grey films [2, 1, 64, 64] in [0, 1]."""
    return torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def seen(images):
    """What torchvision's networks are given of these films, by torchvision's own transform."""
    return normalize(images.expand(-1, 3, -1, -1), *IMAGENET)
